import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import type { GgufValue } from '../../bench/peer/gguf.ts'
import { readCheckpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import { readConfig } from '../../gpu-node/checkpoint/config.ts'
import { llamaTensors } from '../../gpu-node/checkpoint/llama-tensors.ts'
import { StartupError } from '../../gpu-node/startup-error.ts'
import { f32Tensor, type GgufConfig, ggufOfConfig, writeGgufConfig } from '../support/gguf-of-config.ts'
import { expectSameRope } from '../support/same-rope.ts'
import type { Json } from '../support/tiny-checkpoint.ts'

const GOLDEN = join(import.meta.dirname, '../golden/architectures')
const folder = mkdtempSync(join(tmpdir(), 'apar-gguf-architectures-'))
afterAll(() => rmSync(folder, { recursive: true }))

/** A golden configuration, changed, with the shape that config.json gives. */
function configured(name: string, fields: Json = {}) {
  const config: Json = { ...JSON.parse(readFileSync(join(GOLDEN, name, 'config.json'), 'utf8')), ...fields }
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config))
  return { config, ...readConfig(folder) }
}

let files = 0
function written(gguf: GgufConfig, metadata: Record<string, GgufValue> = {}): string {
  const path = join(folder, `model-${files++}.gguf`)
  writeGgufConfig(path, { ...gguf, metadata: { ...gguf.metadata, ...metadata } })
  return path
}

function gguf(architecture: string, name: string, fields: Json = {}): GgufConfig {
  const { config, shape } = configured(name, fields)
  return ggufOfConfig(architecture, config, shape)
}

function refusal(path: string): string {
  try {
    readCheckpoint(path)
  } catch (error) {
    if (error instanceof StartupError) return error.message
    throw error
  }
  throw new Error('the file was accepted')
}

describe('a GGUF file has the shape of the config.json that it was converted from', () => {
  test.each([
    ['llama', 'llama', {}],
    ['llama', 'llama-tied', {}],
    ['llama', 'llama-biases', {}],
    ['llama', 'llama-linear', {}],
    ['llama', 'llama-llama3', {}],
    ['llama', 'llama-yarn', {}],
    ['llama', 'llama-dynamic', {}],
    ['llama', 'mistral', {}],
    ['qwen2', 'qwen2', {}],
    ['qwen2', 'qwen2-yarn-tied', {}],
    ['qwen2', 'qwen2', { partial_rotary_factor: 0.5 }],
    ['qwen3', 'qwen3', {}],
    ['qwen3', 'qwen3-biases-tied', {}],
    // The list of the golden configuration has no place in GGUF.
    ['smollm3', 'smollm3', { no_rope_layers: null, num_hidden_layers: 4 }],
  ])('%s: %s %o', (architecture, name, fields) => {
    const { config, shape } = configured(name, fields)
    const {
      shape: read,
      weights,
      warnings,
    } = readCheckpoint(written(ggufOfConfig(architecture, config, shape)))
    const rmsNormEps = Math.fround(shape.rmsNormEps)
    expect({ ...read, rope: undefined }).toEqual({ ...shape, rmsNormEps, rope: undefined })
    expectSameRope(read.rope, shape.rope)
    expect(warnings).toEqual([])
    expect(weights.tensors.map((tensor) => tensor.name).sort()).toEqual(
      [...llamaTensors(shape).keys()].sort(),
    )
  })
})

test('rows of q and k, and their biases, are interleaved in the architectures that rotate neighbours', () => {
  const interleaved = (path: string) =>
    readCheckpoint(path)
      .weights.tensors.filter(({ name, interleavedHeads }) => name.includes('.layers.1.') && interleavedHeads)
      .map(({ name, interleavedHeads }) => [name.replace(/.*self_attn\./, ''), interleavedHeads])
  const weights = [
    ['q_proj.weight', 4],
    ['k_proj.weight', 2],
  ]
  const biases = [
    ['q_proj.bias', 4],
    ['k_proj.bias', 2],
  ]
  const sorted = (rows: unknown[][]) => rows.map(String).sort()
  expect(sorted(interleaved(written(gguf('llama', 'llama-biases'))))).toEqual(sorted([...weights, ...biases]))
  expect(sorted(interleaved(written(gguf('smollm3', 'smollm3'))))).toEqual(sorted(weights))
  expect(interleaved(written(gguf('qwen2', 'qwen2')))).toEqual([])
  expect(interleaved(written(gguf('qwen3', 'qwen3-biases-tied')))).toEqual([])
})

describe('the scaling of rotary embeddings', () => {
  const ropeOf = (metadata: Record<string, GgufValue>) =>
    readCheckpoint(written(gguf('llama', 'llama'), metadata)).shape.rope
  const [plain, linear] = [
    configured('llama').shape.rope,
    configured('llama-linear', { head_dim: 8 }).shape.rope,
  ]

  test('is linear without a type, under its old name too; 0 is no factor', () => {
    expect(ropeOf({ 'llama.rope.scaling.factor': { f32: 4 } })).toEqual(linear)
    expect(ropeOf({ 'llama.rope.scale_linear': { f32: 4 } })).toEqual(linear)
    expect(ropeOf({ 'llama.rope.scaling.factor': { f32: 0 } })).toEqual(plain)
  })

  test('is none where the type is none', () => {
    const none: GgufValue = { string: 'none' }
    expect(ropeOf({ 'llama.rope.scaling.type': none, 'llama.rope.scaling.factor': { f32: 4 } })).toEqual(
      plain,
    )
  })

  test('by yarn has a factor of its own beside the one that follows from the scaling', () => {
    const yarn: Record<string, GgufValue> = {
      'llama.rope.scaling.type': { string: 'yarn' },
      'llama.rope.scaling.factor': { f32: 4 },
      'llama.rope.scaling.original_context_length': { u32: 16 },
    }
    const { scale } = ropeOf(yarn)
    expect(scale).toBeCloseTo(1 + 0.1 * Math.log(4), 6)
    expect(ropeOf({ ...yarn, 'llama.rope.scaling.attn_factor': { f32: 0.5 } }).scale).toBeCloseTo(
      scale / 2,
      6,
    )
    const logMultiplier = { ...yarn, 'llama.rope.scaling.yarn_log_multiplier': { f32: 2 } }
    expect(ropeOf(logMultiplier).scale).toBeCloseTo(scale / (1 + 0.2 * Math.log(4)), 6)
    expect(refusal(written(gguf('llama', 'llama-yarn-options')))).toMatch(
      'llama.rope.scaling.yarn_attn_factor: 1.25 is not computed',
    )
  })

  test('by a tensor needs one divisor for each pair, in f32, and no other scaling', () => {
    const { metadata, tensors } = gguf('llama', 'llama')
    const withDivisors = (divisors: Float32Array, more: Record<string, GgufValue> = {}) =>
      written({ metadata, tensors: [...tensors, f32Tensor('rope_freqs.weight', divisors)] }, more)
    const { frequencies } = readCheckpoint(withDivisors(Float32Array.of(1, 2, 4, 8))).shape.rope
    expect(frequencies).toEqual(plain.frequencies.map((each, pair) => each / 2 ** pair))
    expect(refusal(withDivisors(Float32Array.of(1, 1, 1)))).toMatch(
      'rope_freqs.weight: is F32 [3], not F32 [4]',
    )
    for (const wrong of [0, -1, Number.NaN])
      expect(refusal(withDivisors(Float32Array.of(1, 1, 1, wrong)))).toMatch(
        'rope_freqs.weight: gives frequencies',
      )
    expect(
      refusal(withDivisors(Float32Array.of(1, 1, 1, 1), { 'llama.rope.scaling.factor': { f32: 4 } })),
    ).toMatch('llama.rope.scaling.type: linear is not computed together with rope_freqs.weight')
  })
})

test('a sliding window bounds the context, and a field that is not known is named, in warnings', () => {
  const path = written(gguf('qwen2', 'qwen2'), {
    'qwen2.attention.sliding_window': { u32: 10 },
    'qwen2.new_scale': { f32: 2 },
    'qwen2.new_flag': { bool: false },
    'llama.other': { f32: 2 },
  })
  const { shape, warnings } = readCheckpoint(path)
  expect(shape.contextTokens).toBe(10)
  expect(warnings).toEqual([
    expect.stringContaining(`${path}: qwen2.new_scale: is not known`),
    expect.stringContaining(`${path}: qwen2.attention.sliding_window: the context ends at 10 tokens`),
  ])
})

describe('tensors that belong to the architecture', () => {
  test.each([
    ['qwen2', 'llama', 'model.layers.0.self_attn.q_proj.bias is missing'],
    ['qwen3', 'llama', 'model.layers.0.self_attn.q_norm.weight is missing'],
    ['qwen2', 'qwen3-biases-tied', 'self_attn.q_norm.weight'],
  ])('%s with the tensors of %s', (architecture, tensors, message) => {
    expect(refusal(written(gguf(architecture, tensors)))).toMatch(message)
  })
  test('a bias in one layer only', () => {
    const { metadata, tensors } = gguf('llama', 'llama-biases')
    const missing = tensors.filter(({ name }) => name !== 'blk.1.ffn_down.bias')
    expect(refusal(written({ metadata, tensors: missing }))).toMatch('mlp.down_proj.bias is missing')
  })
})
