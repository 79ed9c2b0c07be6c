import { existsSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { inspectModel } from '../../../cli/models/inspect.ts'
import { inspectionReport } from '../../../cli/models/inspect-report.ts'
import { CUDA_DTYPES } from '../../../gpu-node/engine/engine-config.ts'
import { writeMedusa } from '../../support/medusa-folder.ts'
import { requires } from '../../support/requires.ts'
import {
  headerOf,
  safetensors,
  type TinyFolder,
  tinyCheckpoint,
  tinyConfig,
  tinyTensors,
  tinyTokenizerConfig,
  VOCAB_SIZE,
} from '../../support/tiny-checkpoint.ts'

const BUILT = () => existsSync('native/build/release/apar.node')

describe.skipIf(!requires('the built engine', BUILT))('what an inspection says', () => {
  let folder: TinyFolder
  beforeEach(() => {
    folder = tinyCheckpoint()
  })
  afterEach(() => folder.remove())

  const parameters = [...tinyTensors().values()].reduce(
    (sum, shape) => sum + shape.reduce((a, b) => a * b, 1),
    0,
  )

  test('a model that forks', async () => {
    const found = await inspectModel(folder.path, 'cpu')
    expect(found).toMatchObject({
      path: folder.path,
      architecture: 'LlamaForCausalLM',
      parameters,
      bytes: parameters * 4,
      formats: [{ dtype: 'F32', tensors: 11, parameters, bytes: parameters * 4 }],
      tokens: {
        vocabulary: VOCAB_SIZE,
        bos: { id: 256, text: '<s>' },
        eos: [{ id: 257, text: '</s>' }],
        fork: { id: 258, text: '[Fork]' },
        child: { id: 259, text: '[Child]' },
      },
      template: {
        file: join(folder.path, 'tokenizer_config.json'),
        prompt: '<s>user: Hello!\nA:',
        tokens: 16,
      },
      branching: 'forks',
      warnings: [],
    })
  })

  test('many tokens that end an answer: the report shows the first ones', async () => {
    const eos = Array.from({ length: 200 }, (_, id) => id)
    folder.write('config.json', { ...tinyConfig(), eos_token_id: eos })
    const found = await inspectModel(folder.path, 'cpu')
    expect(found.tokens.eos.map(({ id }) => id)).toEqual([257, ...eos])
    expect(inspectionReport(found)).toMatch(/ and 193 more$/m)
  })

  test('the memory for each dtype, and which one is the default', async () => {
    const { memory } = await inspectModel('models/demo', 'cpu')
    const of = Object.fromEntries(memory.map((row) => [row.dtype, row]))
    expect(memory.filter(({ isDefault }) => isDefault).map(({ dtype }) => dtype)).toEqual(['bf16'])
    // Keys and values of 4 layers with 2 heads of 64, in 4 and in 2 bytes.
    expect(of.f32).toMatchObject({ fits: true, kvBytesPer1000Tokens: 4_096_000 })
    expect(of.bf16).toMatchObject({ fits: true, kvBytesPer1000Tokens: 2_048_000 })
    for (const dtype of CUDA_DTYPES)
      expect(of[dtype]).toMatchObject({ fits: false, plan: undefined, problem: 'needs a CUDA device' })
  })

  test('a model that is too large, with what it would take', async () => {
    const rows = 2 ** 30
    const header = headerOf(tinyTensors().set('model.embed_tokens.weight', [rows, 8]))
    const head = safetensors(header, 0)
    const end = Math.max(...Object.values(header).map(({ data_offsets }) => data_offsets[1]))
    folder.write('model.safetensors', head)
    // A sparse file: the weights are never read.
    truncateSync(join(folder.path, 'model.safetensors'), head.length + end)
    folder.write('config.json', { ...tinyConfig(), vocab_size: rows, max_position_embeddings: 2 ** 31 - 1 })
    const found = await inspectModel(folder.path, 'cpu')
    const bf16 = found.memory.find(({ dtype }) => dtype === 'bf16')
    expect(bf16?.fits).toBe(false)
    expect(bf16?.problem).toMatch(/^the model needs .* \(weights /)
    expect(bf16?.plan?.weightBytes).toBeGreaterThan(rows * 8 * 2)
    expect(inspectionReport(found)).toMatch(/bf16 .* does not fit: needs \d+/)
  })

  test('a model without fork tokens and without a template', async () => {
    const { apar: _, ...config } = tinyConfig()
    const { chat_template: __, ...tokenizer } = tinyTokenizerConfig()
    folder.write('config.json', config)
    folder.write('tokenizer_config.json', tokenizer)
    const found = await inspectModel(folder.path, 'cpu')
    expect(found).toMatchObject({ branching: 'serial', template: undefined })
    expect(found.warnings).toEqual([expect.stringMatching(/^there is no chat template/)])
    const report = inspectionReport(found)
    expect(report).toMatch(/^branching {5}decodes serially/m)
    expect(report).toMatch(/^warning: there is no chat template/m)
  })

  test('Medusa heads, which take memory', async () => {
    const before = await inspectModel(folder.path, 'cpu')
    expect(before.medusa).toBeUndefined()
    expect(inspectionReport(before)).toMatch(/^Medusa {8}no heads$/m)
    writeMedusa(join(folder.path, 'medusa'), { heads: 2, layers: 1 })
    const found = await inspectModel(folder.path, 'cpu')
    const bytes = 2 * (8 * 8 + 8 + VOCAB_SIZE * 8) * 4
    expect(found).toMatchObject({
      medusa: {
        numHeads: 2,
        numLayers: 1,
        sharesLmHead: false,
        readsNextToken: false,
        vocabSize: VOCAB_SIZE,
        bytes,
      },
      bytes: before.bytes,
      digest: before.digest,
    })
    expect(inspectionReport(found)).toMatch(/^Medusa {8}2 heads, projections of their own, 0\.0 MB$/m)
    const f32 = ({ memory }: typeof found) => memory.find(({ dtype }) => dtype === 'f32')?.plan
    expect((f32(found)?.weightBytes ?? 0) - (f32(before)?.weightBytes ?? 0)).toBe(bytes)
    expect((await inspectModel(folder.path, 'cpu', { medusa: 'none' })).medusa).toBeUndefined()
    const other = writeMedusa(join(folder.path, 'other'), { heads: 3, layers: 1 })
    expect((await inspectModel(folder.path, 'cpu', { medusa: other })).medusa?.numHeads).toBe(3)
  })

  test('texts of the checkpoint do not control the terminal', async () => {
    const template = `\u001b[2J\u0007{{ messages[0].content }}`
    folder.write('tokenizer_config.json', { ...tinyTokenizerConfig(), chat_template: template })
    const report = inspectionReport(await inspectModel(folder.path, 'cpu'))
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    expect(report).not.toMatch(/[\u0000-\u0009\u000b-\u001f]/)
    expect(report).toContain('  | Hello!')
  })

  test('a broken checkpoint is its own sentence', async () => {
    folder.write('config.json', '{}')
    await expect(inspectModel(folder.path)).rejects.toMatchObject({
      code: 'broken_checkpoint',
      message: expect.stringMatching(/config\.json: architectures/),
    })
  })
})
