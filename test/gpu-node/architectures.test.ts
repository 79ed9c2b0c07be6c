import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { CONFIG_RULES } from '../../gpu-node/checkpoint/config/fields.ts'
import { readConfig } from '../../gpu-node/checkpoint/config.ts'
import { llamaTensors } from '../../gpu-node/checkpoint/llama-tensors.ts'
import type { ModelShape } from '../../gpu-node/engine/engine-config.ts'
import { StartupError } from '../../gpu-node/startup-error.ts'
import { expectSameRope } from '../support/same-rope.ts'
import { type Json, tinyConfig } from '../support/tiny-checkpoint.ts'

const GOLDEN = join(import.meta.dirname, '../golden/architectures')
const folder = mkdtempSync(join(tmpdir(), 'apar-architectures-'))
afterAll(() => rmSync(folder, { recursive: true }))

const LLAMA = 'LlamaForCausalLM'
function read(architecture: string, fields: Json = {}) {
  return readFields({ ...tinyConfig(), architectures: [architecture], ...fields })
}

function readFields(config: Json) {
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config))
  return readConfig(folder)
}

function refusal(architecture: string, fields: Json): string {
  try {
    read(architecture, fields)
  } catch (error) {
    if (error instanceof StartupError) return error.message
    throw error
  }
  throw new Error('the configuration was accepted')
}

describe('the shape of a checkpoint is the one that transformers computes with', () => {
  const names = readdirSync(GOLDEN, { withFileTypes: true })
  test.each(names.filter((entry) => entry.isDirectory()).map(({ name }) => name))('%s', (name) => {
    const { shape, warnings } = readConfig(join(GOLDEN, name))
    const should: ModelShape = JSON.parse(readFileSync(join(GOLDEN, name, 'shape.json'), 'utf8'))
    expect({ ...shape, rope: undefined }).toEqual({ ...should, rope: undefined })
    expectSameRope(shape.rope, should.rope)
    expect(warnings).toEqual(name === 'llama-dynamic' ? [expect.stringMatching('dynamic scaling')] : [])
  })
})

describe('fields that are absent have the defaults of the architecture', () => {
  test.each([
    [LLAMA, { tieWordEmbeddings: false, headDim: 4 }, 10_000],
    ['MistralForCausalLM', { tieWordEmbeddings: false, headDim: 4 }, 10_000],
    ['Qwen2ForCausalLM', { tieWordEmbeddings: false, headDim: 4 }, 10_000],
    ['Qwen3ForCausalLM', { tieWordEmbeddings: false, headDim: 128 }, 10_000],
    ['SmolLM3ForCausalLM', { tieWordEmbeddings: true, headDim: 4 }, 2_000_000],
    ['SeedOssForCausalLM', { tieWordEmbeddings: false, headDim: 128 }, 10_000],
  ])('%s', (architecture, defaults, theta) => {
    const { shape } = read(architecture, { tie_word_embeddings: undefined, rope_theta: undefined })
    expect(shape).toMatchObject(defaults)
    expect(shape.rope.theta).toBe(theta)
  })
})

describe('biases', () => {
  const ALL = { qkv: true, attentionOutput: true, mlp: true }
  const NONE = { qkv: false, attentionOutput: false, mlp: false }
  const on = { attention_bias: true, mlp_bias: true }
  test.each([
    [LLAMA, on, ALL],
    [LLAMA, {}, NONE],
    ['MistralForCausalLM', on, NONE],
    ['Qwen2ForCausalLM', { attention_bias: false }, { ...NONE, qkv: true }],
    ['Qwen3ForCausalLM', on, { ...ALL, mlp: false }],
    ['SmolLM3ForCausalLM', on, ALL],
    ['SeedOssForCausalLM', {}, { ...NONE, qkv: true }],
    [
      'SeedOssForCausalLM',
      { attention_bias: false, attention_out_bias: true },
      { ...NONE, attentionOutput: true },
    ],
  ])('of %s with %o', (architecture, fields, biases) => {
    expect(read(architecture, fields).shape.biases).toEqual(biases)
  })

  test('and norms of heads are tensors of their own', () => {
    const { shape } = read('Qwen3ForCausalLM', { head_dim: 6, attention_bias: true })
    const tensors = llamaTensors(shape)
    const layer = 'model.layers.0.self_attn'
    expect(tensors.get(`${layer}.q_proj.bias`)).toEqual([12])
    expect(tensors.get(`${layer}.v_proj.bias`)).toEqual([6])
    expect(tensors.get(`${layer}.o_proj.bias`)).toEqual([8])
    expect(tensors.get(`${layer}.q_norm.weight`)).toEqual([6])
    expect(tensors.get(`${layer}.k_norm.weight`)).toEqual([6])
    expect(tensors.has('model.layers.0.mlp.up_proj.bias')).toBe(false)
    const all = llamaTensors(read(LLAMA, { attention_bias: true, mlp_bias: true }).shape)
    expect(all.get('model.layers.0.mlp.up_proj.bias')).toEqual([16])
    expect(all.get('model.layers.0.mlp.down_proj.bias')).toEqual([8])
    expect(all.has(`${layer}.q_norm.weight`)).toBe(false)
  })
})

describe('layers without rope', () => {
  const skipped = (fields: Json) =>
    read('SmolLM3ForCausalLM', { num_hidden_layers: 6, ...fields }).shape.layersWithoutRope
  test('are those with 0 in the list, which may be longer than the model', () => {
    expect(skipped({ no_rope_layers: [1, 0, 1, 1, 0, 1, 0, 0], no_rope_layer_interval: 2 })).toEqual([1, 4])
  })
  test('are every fourth without a list, or as the interval says', () => {
    expect(skipped({})).toEqual([3])
    expect(skipped({ no_rope_layers: null, no_rope_layer_interval: 2 })).toEqual([1, 3, 5])
  })
  test('are refused where they cannot be', () => {
    expect(refusal('SmolLM3ForCausalLM', { no_rope_layers: [] })).toMatch(
      'no_rope_layers: has 0 values for 1 layers',
    )
    expect(refusal('SmolLM3ForCausalLM', { no_rope_layers: [2] })).toMatch('no_rope_layers')
    expect(refusal('SmolLM3ForCausalLM', { no_rope_layer_interval: 0 })).toMatch('no_rope_layer_interval')
    expect(refusal(LLAMA, { no_rope_layers: [0] })).toMatch(
      'no_rope_layers: this architecture rotates in all layers',
    )
    expect(refusal(LLAMA, { no_rope_layer_interval: 4 })).toMatch('no_rope_layer_interval: this architecture')
    expect(read(LLAMA, { no_rope_layers: [1] }).shape.layersWithoutRope).toEqual([])
  })
})

describe('a sliding window', () => {
  const sliding = ['sliding_attention']
  const full = ['full_attention']
  const on = { use_sliding_window: true, sliding_window: 100 }
  test.each([
    ['MistralForCausalLM', { sliding_window: 100 }],
    ['MistralForCausalLM', { sliding_window: 100, layer_types: full }],
    ['Qwen2ForCausalLM', { ...on, max_window_layers: 0 }],
    ['Qwen3ForCausalLM', { ...on, layer_types: sliding }],
    ['SmolLM3ForCausalLM', { ...on, no_rope_layers: [0] }],
    [LLAMA, { sliding_window: 100 }],
  ])('of %s bounds the context, with a warning: %o', (architecture, fields) => {
    const { shape, warnings } = read(architecture, fields)
    expect(shape.contextTokens).toBe(100)
    expect(warnings).toEqual([
      expect.stringMatching(/config\.json: sliding_window: the context ends at 100 tokens/),
    ])
  })

  test.each([
    ['MistralForCausalLM', { sliding_window: null }],
    ['MistralForCausalLM', { sliding_window: 256 }],
    ['Qwen2ForCausalLM', { sliding_window: 100 }],
    ['Qwen2ForCausalLM', { ...on, max_window_layers: 1 }],
    ['Qwen3ForCausalLM', { ...on, use_sliding_window: false, layer_types: sliding }],
    ['Qwen3ForCausalLM', { ...on, max_window_layers: 0, layer_types: full }],
    ['SmolLM3ForCausalLM', on],
    ['SmolLM3ForCausalLM', { sliding_window: 100, no_rope_layers: [0] }],
    [LLAMA, { ...on, use_sliding_window: false }],
    [LLAMA, { ...on, layer_types: full }],
  ])('of %s has no effect: %o', (architecture, fields) => {
    const { shape, warnings } = read(architecture, fields)
    expect(shape.contextTokens).toBe(256)
    expect(warnings).toEqual([])
  })

  test('of Mistral is 4096 without the field, as in transformers', () => {
    const { shape } = read('MistralForCausalLM', { max_position_embeddings: 8192 })
    expect(shape.contextTokens).toBe(4096)
  })

  test('of no tokens, and other types of layers, are refused', () => {
    expect(refusal('MistralForCausalLM', { sliding_window: 0 })).toMatch(
      'sliding_window: a window of no tokens',
    )
    const chunked = { layer_types: ['chunked_attention'] }
    expect(refusal('Qwen3ForCausalLM', chunked)).toMatch('layer_types: chunked_attention is not computed')
  })
})

test('an architecture that is not known, or another than model_type says, is refused', () => {
  expect(refusal('MixtralForCausalLM', {})).toMatch(
    /architectures: MixtralForCausalLM is not served \(LlamaFor/,
  )
  expect(refusal(LLAMA, { model_type: 'mistral' })).toMatch('model_type: mistral is another architecture')
  expect(read(LLAMA, { model_type: 'llama' }).warnings).toEqual([])
})

describe('fields that nothing reads', () => {
  const { neutral, irrelevant } = CONFIG_RULES

  test.each(Object.entries(neutral))('%s is refused by its name unless it is neutral', (field, values) => {
    expect(refusal(LLAMA, { [field]: 30.5 })).toMatch(`config.json: ${field}: 30.5 is not computed`)
    for (const value of [...values, null]) expect(read(LLAMA, { [field]: value }).warnings).toEqual([])
  })

  test('change nothing if they are irrelevant', () => {
    for (const field of irrelevant) {
      if (field === 'model_type') continue
      expect(read(LLAMA, { [field]: 30.5 }).warnings).toEqual([])
    }
  })

  test('are named in a warning if they are unknown and could mean something', () => {
    const unknown = { new_scale: 2, off: false, none: null, zero: 0, one: 1, empty: '', list: [], object: {} }
    const warning =
      /config\.json: new_scale: is not known: if it changes what the model computes, its answers/
    expect(read(LLAMA, unknown).warnings).toEqual([expect.stringMatching(warning)])
  })

  test('do not fill the log', () => {
    const many = Object.fromEntries(Array.from({ length: 1000 }, (_, index) => [`field_${index}`, 2]))
    const { warnings } = read(LLAMA, { 'a\nb': 2, ['c'.repeat(1e6)]: 2, ...many })
    expect(warnings).toHaveLength(17)
    expect(warnings.join('')).not.toContain('\n')
    expect(warnings.join('').length).toBeLessThan(5000)
    expect(warnings.at(-1)).toContain('… and 986 more: is not known')
  })

  test('have names that no field of objects has by itself', () => {
    const { warnings } = read(LLAMA, { constructor: 'x', toString: 'y' })
    expect(warnings).toHaveLength(2)
  })
})

test('whatever the fields are, the configuration is read or refused with a sentence', () => {
  const odd = [
    null,
    true,
    -1,
    0,
    1,
    1.5,
    2 ** 31 - 2,
    1e300,
    '',
    'x',
    [],
    [0],
    [[]],
    {},
    { a: { b: 1 } },
    { type: 'yarn' },
  ]
  const config = JSON.parse(readFileSync(join(GOLDEN, 'smollm3/config.json'), 'utf8'))
  const rope = ['rope_theta', 'rope_scaling', 'partial_rotary_factor', 'original_max_position_embeddings']
  let refused = 0
  for (const field of [
    ...Object.keys(config),
    ...rope,
    'branching',
    'apar',
    'head_dim',
    'quantization_config',
  ]) {
    for (const value of odd) {
      try {
        readFields({ ...config, [field]: value })
      } catch (error) {
        expect(error).toBeInstanceOf(StartupError)
        expect(String(error)).not.toContain('\n')
        refused++
      }
    }
  }
  expect(refused).toBeGreaterThan(250)
})

describe('branching', () => {
  const block = { fork_token: '[Fork]', child_token: '[Child]' }
  const branchingOf = (fields: Json) => read(LLAMA, { apar: undefined, ...fields }).branching
  test('is read from its own object, or from apar, with the same meaning', () => {
    expect(branchingOf({ branching: block })).toMatchObject({ ...block, joints: 'kept', source: 'branching' })
    expect(branchingOf({ apar: block })).toEqual({ ...block, joints: 'kept' })
    const whole = { ...block, joints: 'mended', child_sees_fork: true, max_branches: 4, max_depth: 3 }
    expect(branchingOf({ branching: whole })).toEqual({
      ...block,
      source: 'branching',
      joints: 'mended',
      limits: { maxBranches: 4, maxDepth: 3 },
    })
    expect(branchingOf({})).toBeUndefined()
  })
  test.each([
    ['branching.child_sees_fork: only true is computed', { branching: { ...block, child_sees_fork: false } }],
    ['branching: apar says the same', { branching: block, apar: block }],
    ['branching.join_token', { branching: { ...block, join_token: '[Join]' } }],
    ['branching.max_branches', { branching: { ...block, max_branches: 0 } }],
    ['branching.child_token', { branching: { fork_token: '[Fork]' } }],
    ['apar.max_branches', { apar: { ...block, max_branches: 4 } }],
  ])('%s', (message, fields) => {
    expect(refusal(LLAMA, { apar: undefined, ...fields })).toContain(`config.json: ${message}`)
  })
})
