import {
  closeSync,
  cpSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { readCheckpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import { checkpointDigest } from '../../gpu-node/checkpoint/digest.ts'
import type { ModelShape } from '../../gpu-node/engine/engine-config.ts'
import { ARITHMETIC_VERSION } from '../../gpu-node/requests/model-fingerprint.ts'
import { parseFingerprint } from '../../shared/protocol/fingerprint.ts'
import type { NodeBatch } from '../../shared/protocol/node.ts'
import { scriptedRunner } from '../support/scripted-node.ts'
import {
  type Json,
  type TinyFolder,
  tinyCheckpoint,
  tinyConfig,
  tinyTokenizerConfig,
} from '../support/tiny-checkpoint.ts'

let folder: TinyFolder
let copy: string
beforeEach(() => {
  folder = tinyCheckpoint()
  copy = join(mkdtempSync(join(tmpdir(), 'apar-copy-')), 'another-name')
  cpSync(folder.path, copy, { recursive: true })
})
afterEach(() => {
  folder.remove()
  rmSync(join(copy, '..'), { recursive: true })
})

const digestOf = (path: string) => readCheckpoint(path).digest

test('the digest of a checkpoint is the same in every version: streams move between them', () => {
  expect(digestOf(join(import.meta.dirname, '../../models/demo'))).toBe('e2597ad03ce595ce')
})

const MODEL = 'model.safetensors'

/** Changes one byte of a tensor in the copy. */
function changeByte(name: string, index: number): void {
  const tensor = readCheckpoint(copy).weights.tensors.find((entry) => entry.name === name)
  if (!tensor) throw new Error(`there is no ${name}`)
  const bytes = readFileSync(join(copy, MODEL))
  const at = tensor.offset + index
  bytes[at] = (bytes[at] ?? 0) ^ 1
  writeFileSync(join(copy, MODEL), bytes)
}

describe('the digest of a checkpoint', () => {
  test('is the same for a copy in another folder, written at another time', () => {
    for (const file of ['config.json', MODEL]) utimesSync(join(copy, file), 1_000_000, 1_000_000)
    expect(readCheckpoint(copy).created).not.toBe(readCheckpoint(folder.path).created)
    expect(digestOf(copy)).toBe(digestOf(folder.path))
  })

  test('is the same for a copy whose tensors lie in another order', () => {
    const bytes = readFileSync(join(copy, MODEL))
    const length = Number(bytes.readBigUInt64LE(0))
    const header: Record<string, unknown> = JSON.parse(bytes.subarray(8, 8 + length).toString())
    const reversed = JSON.stringify(Object.fromEntries(Object.entries(header).reverse())).padEnd(length)
    writeFileSync(
      join(copy, MODEL),
      Buffer.concat([bytes.subarray(0, 8), Buffer.from(reversed), bytes.subarray(8 + length)]),
    )
    expect(digestOf(copy)).toBe(digestOf(folder.path))
  })

  test.each([
    ['model.layers.0.mlp.down_proj.weight', 0],
    ['model.norm.weight', 3],
    ['model.embed_tokens.weight', 40],
  ])('changes with the weights: %s', (name, index) => {
    changeByte(name, index)
    expect(digestOf(copy)).not.toBe(digestOf(folder.path))
  })

  test('changes with defaults, template and tokens', () => {
    const digests = new Set([digestOf(folder.path)])
    folder.write('generation_config.json', { do_sample: true, temperature: 0.3 })
    digests.add(digestOf(folder.path))
    folder.write('tokenizer_config.json', { ...tinyTokenizerConfig(), chat_template: 'another' })
    digests.add(digestOf(folder.path))
    expect(digests.size).toBe(3)
  })
})

describe('the digest of a model that is more than a plain Llama', () => {
  const yarn = { type: 'yarn', factor: 4, original_max_position_embeddings: 64 }
  const digestWith = (fields: Json) => {
    folder.write('config.json', { ...tinyConfig(), ...fields })
    return digestOf(folder.path)
  }

  test('is another for each feature that changes answers', () => {
    const smollm3 = { architectures: ['SmolLM3ForCausalLM'] }
    const branching = { fork_token: '[Fork]', child_token: '[Child]' }
    const digests = [
      {},
      { partial_rotary_factor: 0.5 },
      { rope_scaling: { type: 'linear', factor: 2 } },
      { rope_scaling: yarn },
      { rope_scaling: { ...yarn, attention_factor: 1 } },
      { ...smollm3, no_rope_layers: [0] },
      { apar: undefined, branching: { ...branching, max_branches: 4 } },
      { apar: undefined, branching: { ...branching, max_depth: 4 } },
    ].map(digestWith)
    expect(new Set(digests).size).toBe(digests.length)
  })

  test('is another with biases and norms of heads', () => {
    const checkpoint = readCheckpoint(folder.path)
    const withShape = (shape: Partial<ModelShape>) =>
      checkpointDigest({ ...checkpoint, shape: { ...checkpoint.shape, ...shape } })
    const none = { qkv: false, attentionOutput: false, mlp: false }
    const shapes = [
      ...[{}, { headNorms: true }, { biases: { ...none, qkv: true } }],
      ...[{ biases: { ...none, attentionOutput: true } }, { biases: { ...none, mlp: true } }],
    ]
    expect(new Set(shapes.map(withShape)).size).toBe(shapes.length)
  })

  test('is the same where a feature has no effect', () => {
    const plain = digestWith({})
    const branching = { fork_token: '[Fork]', child_token: '[Child]', child_sees_fork: true, max_depth: null }
    for (const fields of [
      { rope_scaling: { type: 'dynamic', factor: 2 } },
      { partial_rotary_factor: 1, attention_bias: false },
      { architectures: ['SmolLM3ForCausalLM'], no_rope_layers: [1] },
      { architectures: ['MistralForCausalLM'] },
      { apar: undefined, branching },
    ])
      expect(digestWith(fields)).toBe(plain)
  })
})

describe('a node', () => {
  const request = { model: 'tiny', messages: [{ role: 'user' as const, content: 'hi' }], seed: 1 }

  async function begun(): Promise<NodeBatch[]> {
    const { runner, engine } = await scriptedRunner(folder)
    const log: NodeBatch[] = []
    await runner.start('s', request, (batch) => log.push(batch))
    engine.tokens(1, 0, Buffer.from('a')).deliver()
    return log
  }

  test('names its checkpoint, numeric types and device', async () => {
    const { runner } = await scriptedRunner(folder)
    const { dtype, kvCacheDtype } = runner.engineInfo
    expect(parseFingerprint(runner.fingerprint)).toMatchObject({
      checkpoint: `${digestOf(folder.path)}.${ARITHMETIC_VERSION}`,
      dtype,
      kv_cache_dtype: kvCacheDtype,
    })
  })

  test('continues the log of a copy, and of a node that does not say what it is', async () => {
    const log = await begun()
    const old = log.map((batch) => ({
      ...batch,
      events: batch.events.map((event) =>
        event.type === 'accepted' ? { ...event, fingerprint: 'fp_7a5c9cdd11' } : event,
      ),
    }))
    for (const known of [log, old]) {
      const { runner, engine } = await scriptedRunner(folder)
      await runner.start('s', request, () => {}, { log: known })
      expect(engine.submitted).toHaveLength(1)
    }
  })

  test('refuses the log of a node with other weights', async () => {
    const log = await begun()
    folder.write('generation_config.json', { do_sample: true, temperature: 0.3 })
    const { runner, engine } = await scriptedRunner(folder)
    await expect(runner.start('s', request, () => {}, { log })).rejects.toThrow(
      expect.objectContaining({ code: 'model_changed', message: expect.stringContaining('checkpoint') }),
    )
    expect(engine.submitted).toEqual([])
  })

  test.each(['', `.${ARITHMETIC_VERSION - 1}`])(
    'refuses the log of a node that computes the same checkpoint otherwise: version %o',
    async (version) => {
      const digest = digestOf(folder.path)
      const other = (await begun()).map((batch) => ({
        ...batch,
        events: batch.events.map((event) =>
          event.type === 'accepted'
            ? {
                ...event,
                fingerprint: event.fingerprint?.replace(
                  `${digest}.${ARITHMETIC_VERSION}`,
                  `${digest}${version}`,
                ),
              }
            : event,
        ),
      }))
      const { runner, engine } = await scriptedRunner(folder)
      await expect(runner.start('s', request, () => {}, { log: other })).rejects.toMatchObject({
        code: 'model_changed',
      })
      expect(engine.submitted).toEqual([])
    },
  )
})

test('of a large tensor samples are read, and the rows of the control tokens', () => {
  const [rows, width] = [32_768, 1024]
  const file = join(copy, 'large.bin')
  writeFileSync(file, '')
  truncateSync(file, rows * width * 4)
  const tensor = {
    name: 'model.embed_tokens.weight',
    file: 0,
    offset: 0,
    dtype: 'F32' as const,
    shape: [rows, width],
  }
  const large = {
    ...readCheckpoint(copy),
    tokens: { fork: 1000, child: 1001, eos: [2] },
    weights: { files: [file], tensors: [tensor] },
  }
  const digestWith = (row: number) => {
    const handle = openSync(file, 'r+')
    writeSync(handle, Uint8Array.of(1), 0, 1, row * width * 4)
    const digest = checkpointDigest(large)
    writeSync(handle, Uint8Array.of(0), 0, 1, row * width * 4)
    closeSync(handle)
    return digest
  }
  const before = checkpointDigest(large)
  for (const row of [0, 2, 1000, 1001]) expect(digestWith(row)).not.toBe(before)
  // What the digest does not see: docs/security.md.
  expect(digestWith(1002)).toBe(before)
})
