// Folders with Medusa heads: which one is found, and what in it is refused.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type CheckpointOptions, readCheckpoint } from '../../../gpu-node/checkpoint/checkpoint.ts'
import { describeMedusa, medusaBytes } from '../../../gpu-node/checkpoint/medusa/describe-medusa.ts'
import { findMedusa } from '../../../gpu-node/checkpoint/medusa/find-medusa.ts'
import { EngineConfig } from '../../../gpu-node/engine/engine-config.ts'
import { toEngineConfig } from '../../../gpu-node/engine-options.ts'
import { StartupError } from '../../../gpu-node/startup-error.ts'
import {
  type MedusaFolder,
  medusaTensors,
  writeMedusa,
  writeTorchMedusa,
} from '../../support/medusa-folder.ts'
import { type Json, type TinyFolder, tinyCheckpoint, VOCAB_SIZE } from '../../support/tiny-checkpoint.ts'

const elsewhere = mkdtempSync(join(tmpdir(), 'apar-medusa-'))
afterAll(() => rmSync(elsewhere, { recursive: true }))

let base: TinyFolder
beforeEach(() => {
  base = tinyCheckpoint()
})
afterEach(() => base.remove())

const inBase = () => join(base.path, 'medusa')
const heads = (options?: CheckpointOptions) => readCheckpoint(base.path, options).medusa

function refusal(options?: CheckpointOptions): { code: string; message: string } {
  try {
    heads(options)
  } catch (error) {
    if (error instanceof StartupError) return { code: error.code, message: error.message }
    throw error
  }
  throw new Error('nothing was refused')
}

describe('heads are found', () => {
  test('in the folder medusa of the model, unless they are left out', () => {
    expect(heads()).toBeUndefined()
    writeMedusa(inBase())
    expect(heads()).toMatchObject({ folder: inBase(), baseModel: 'tiny' })
    expect(heads({ medusa: 'none' })).toBeUndefined()
  })

  test('in the folder that the option names, and not in the model’s then', () => {
    writeMedusa(inBase(), { heads: 3 })
    const other = writeMedusa(join(elsewhere, 'other'), { heads: 1 })
    expect(heads({ medusa: other })).toMatchObject({ folder: other, shape: { numHeads: 1 } })
    expect(refusal({ medusa: join(elsewhere, 'nowhere') })).toEqual({
      code: 'invalid_option',
      message: `Medusa heads: ${join(elsewhere, 'nowhere')} is no folder`,
    })
    expect(refusal({ medusa: elsewhere })).toMatchObject({
      code: 'invalid_option',
      message: expect.stringMatching(/has no config\.json$/),
    })
  })

  test('in the folder of an adapter before that of the model', () => {
    const adapter = join(elsewhere, 'adapter')
    expect(findMedusa(base.path, undefined, adapter)).toBeUndefined()
    writeMedusa(inBase())
    expect(findMedusa(base.path, undefined, adapter)).toBe(inBase())
    const own = writeMedusa(join(adapter, 'medusa'))
    expect(findMedusa(base.path, undefined, adapter)).toBe(own)
    expect(findMedusa('/a/model.gguf', undefined, adapter)).toBe(own)
    expect(findMedusa(base.path, 'none', adapter)).toBeUndefined()
  })

  test('nothing is found in a folder medusa without config.json', () => {
    mkdirSync(inBase())
    expect(heads()).toBeUndefined()
  })

  test('they do not change what the checkpoint is to other nodes', () => {
    const { digest } = readCheckpoint(base.path)
    writeMedusa(inBase())
    expect(readCheckpoint(base.path).digest).toBe(digest)
  })
})

describe('the engine gets', () => {
  test.each<[string, MedusaFolder]>([
    ['heads with projections', { heads: 2, layers: 2 }],
    ['heads that share lm_head', { heads: 3, layers: 1, tied: true }],
    ['heads that read the next token', { heads: 2, layers: 1, tied: true, reads: true }],
    ['a projection alone', { heads: 1, layers: 0 }],
  ])('%s', (_, options) => {
    writeMedusa(inBase(), options)
    const checkpoint = readCheckpoint(base.path)
    const config = EngineConfig.parse(toEngineConfig(checkpoint, {}))
    const { heads: numHeads, layers: numLayers, tied: sharesLmHead = false, reads = false } = options
    const readsNextToken = reads
    expect(config.medusa).toEqual({
      numHeads,
      numLayers,
      sharesLmHead,
      readsNextToken,
      vocabSize: VOCAB_SIZE,
    })
    const found = config.weights.tensors.filter(({ name }) => name.startsWith('medusa.'))
    expect(new Map(found.map(({ name, shape }) => [name.slice('medusa.'.length), shape]))).toEqual(
      medusaTensors(options),
    )
    for (const { file } of found)
      expect(config.weights.files[file]).toBe(join(inBase(), 'medusa_lm_head.safetensors'))
    expect(config.weights.tensors.length - found.length).toBe(checkpoint.weights.tensors.length)
  })

  test('no heads from a model without them', () => {
    expect(toEngineConfig(readCheckpoint(base.path), {})).not.toHaveProperty('medusa')
  })

  test('the torch file of the reference, whose layers of a head may be one tensor', () => {
    const shape = { heads: 2, layers: 2 }
    writeTorchMedusa(inBase(), shape, (name) => name.replace(/^(\d)\.1\./, '$1.0.'))
    const found = heads()
    expect(found).toMatchObject({
      shape: {
        ...{ numHeads: 2, numLayers: 2, sharesLmHead: false, readsNextToken: false, vocabSize: VOCAB_SIZE },
      },
    })
    const offsets = new Map(found?.weights.tensors.map(({ name, offset }) => [name, offset]))
    expect(offsets.get('0.1.linear.weight')).toBe(offsets.get('0.0.linear.weight'))
    expect(offsets.get('1.1.linear.weight')).toBe(offsets.get('1.0.linear.weight'))
    expect(offsets.get('1.0.linear.weight')).not.toBe(offsets.get('0.0.linear.weight'))
    const block = (8 * 8 + 8) * 4
    expect(found && medusaBytes(found)).toBe(2 * (block + VOCAB_SIZE * 8 * 4))
  })
})

describe('an operator reads', () => {
  test('how many heads there are, of which kind and how large', () => {
    const shown = (options: MedusaFolder) => {
      writeMedusa(inBase(), options)
      const found = heads()
      return found && describeMedusa(found)
    }
    expect(shown({ tied: true, layers: 8, heads: 8 })).toBe('8 heads, shared lm_head (260 tokens), 0.0 MB')
    const reads = '3 heads, shared lm_head (260 tokens), read the next token, 0.0 MB'
    expect(shown({ tied: true, heads: 3, reads: true })).toBe(reads)
    expect(shown({ heads: 1, layers: 0 })).toBe('1 head, projections of their own, 0.0 MB')
  })

  test('that the heads know fewer tokens than the model, whether config.json says it or not', () => {
    const warning = `${inBase()}: the heads know 258 of 260 tokens: the others are never drafted, only decoded`
    writeTorchMedusa(inBase(), { vocabulary: 258 })
    expect(readCheckpoint(base.path).warnings).toEqual([warning])
    expect(heads()?.shape.vocabSize).toBe(258)
    rmSync(inBase(), { recursive: true })
    writeMedusa(inBase(), { vocabulary: 258 })
    expect(readCheckpoint(base.path).warnings).toEqual([warning])
    // lm_head has the rows of all tokens: that some are not drafted is a choice.
    writeMedusa(inBase(), { vocabulary: 5, tied: true })
    expect(readCheckpoint(base.path)).toMatchObject({
      warnings: [],
      medusa: { shape: { vocabSize: 5 } },
    })
  })
})

describe('what does not fit the model is refused:', () => {
  const broken = 'broken_checkpoint'
  const unsupported = 'unsupported_checkpoint'
  const without = (name: string) => {
    const tensors = medusaTensors()
    tensors.delete(name)
    return tensors
  }
  const cases: [what: string, options: MedusaFolder, code: string, message: RegExp, parts?: Parts][] = [
    [
      'another hidden size',
      { hidden: 16 },
      broken,
      /config\.json: hidden_size: the heads have 16, the model 8$/,
    ],
    [
      'that size in the tensors alone',
      { hidden: 16 },
      broken,
      /0\.0\.linear\.weight: shape is \[16, 16\]/,
      { config: { hidden_size: null } },
    ],
    [
      'more tokens',
      { vocabulary: 261 },
      broken,
      /config\.json: vocab_size: the heads have 261 tokens, the model 260$/,
    ],
    [
      'that many in the tensors alone',
      { vocabulary: 261 },
      broken,
      /0\.1\.weight: the heads have 261 tokens/,
      { config: { vocab_size: null } },
    ],
    [
      'tensors that contradict config.json',
      { vocabulary: 258 },
      broken,
      /0\.1\.weight: shape is \[258, 8\], .* \[260, 8\]/,
      { config: { vocab_size: 260 } },
    ],
    ['too many heads', { heads: 9 }, unsupported, /medusa_num_heads: 9, at most 8 are used$/],
    ['no heads', {}, broken, /medusa_num_heads/, { config: { medusa_num_heads: 0 } }],
    [
      'too many layers',
      {},
      unsupported,
      /medusa_num_layers: 9, at most 8/,
      { config: { medusa_num_layers: 9 } },
    ],
    [
      'shared lm_head without layers',
      { tied: true, layers: 0 },
      broken,
      /medusa_num_layers: heads without layers/,
    ],
    [
      'a missing tensor',
      {},
      broken,
      /tensor 1\.0\.linear\.bias is missing$/,
      { tensors: without('1.0.linear.bias') },
    ],
    [
      'a missing projection',
      {},
      broken,
      /tensor 0\.1\.weight is missing$/,
      { tensors: without('0.1.weight'), config: { vocab_size: null } },
    ],
    [
      'projections beside tie_lm_head',
      {},
      unsupported,
      /0\.1\.weight: a Medusa model of 2 heads with 1 layer, tie_lm_head has no such tensor/,
      { config: { tie_lm_head: true } },
    ],
    [
      'a matrix for the next token that config.json does not name',
      { reads: true },
      unsupported,
      /next_token\.weight: a Medusa model of 2 heads with 1 layer has no such tensor/,
      { config: { reads_next_token: false } },
    ],
    [
      'no matrix for the next token',
      {},
      broken,
      /next_token\.weight/,
      { config: { reads_next_token: true } },
    ],
    ['tie_lm_head that is no boolean', {}, broken, /tie_lm_head/, { config: { tie_lm_head: 'yes' } }],
  ]
  test.each(cases)('%s', (_, options, code, message, parts) => {
    writeMedusa(inBase(), options, parts)
    expect(refusal()).toEqual({ code, message: expect.stringMatching(message) })
    expect(refusal().message).toContain(inBase())
  })

  test('a config.json without heads beside it, or that is no JSON', () => {
    writeMedusa(inBase())
    rmSync(join(inBase(), 'medusa_lm_head.safetensors'))
    expect(refusal()).toMatchObject({ code: broken, message: expect.stringMatching(/has neither/) })
    writeFileSync(join(inBase(), 'config.json'), '{')
    expect(refusal()).toMatchObject({ code: broken, message: expect.stringMatching(/is not valid JSON/) })
  })
})

interface Parts {
  tensors?: Map<string, number[]>
  config?: Json
}
