import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { mergeAdapter } from '../../gpu-node/checkpoint/adapter/merge-adapter.ts'
import { modulePattern } from '../../gpu-node/checkpoint/adapter/module-pattern.ts'
import { readCheckpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import { EngineConfig } from '../../gpu-node/engine/engine-config.ts'
import { dtypeNote, toEngineConfig } from '../../gpu-node/engine-options.ts'
import { StartupError } from '../../gpu-node/startup-error.ts'
import {
  headerOf,
  type Json,
  safetensors,
  type TinyFolder,
  tinyCheckpoint,
  tinyConfig,
  tinyTokenizer,
  tinyTokenizerConfig,
  VOCAB_SIZE,
} from '../support/tiny-checkpoint.ts'

const PREFIX = 'base_model.model.'
const Q = 'model.layers.0.self_attn.q_proj'
const EMBEDDING = 'model.embed_tokens'
const TENSORS = 'adapter_model.safetensors'

let base: TinyFolder
let adapter: string
beforeEach(() => {
  base = tinyCheckpoint()
  adapter = join(mkdtempSync(join(tmpdir(), 'apar-adapter-')), 'to-fork')
  mkdirSync(adapter)
  writeConfig()
  writeTensors()
})
afterEach(() => {
  base.remove()
  rmSync(join(adapter, '..'), { recursive: true })
})

function write(file: string, content: Json | Buffer | string): void {
  const raw = typeof content === 'string' || Buffer.isBuffer(content)
  writeFileSync(join(adapter, file), raw ? content : JSON.stringify(content))
}

function writeConfig(more: Json = {}): void {
  const fields = { peft_type: 'LORA', r: 2, lora_alpha: 4, target_modules: ['q_proj'], bias: 'none' }
  write('adapter_config.json', { ...fields, ...more })
}

const LORA = { [`${Q}.lora_A.weight`]: [2, 8], [`${Q}.lora_B.weight`]: [8, 2] }

function writeTensors(shapes: Record<string, number[]> = LORA): void {
  const named = Object.entries(shapes).map(([name, shape]): [string, number[]] => [PREFIX + name, shape])
  write(TENSORS, safetensors(headerOf(new Map(named))))
}

const read = () => readCheckpoint(base.path, { adapter })
const entry = (name: string) => read().weights.tensors.find((tensor) => tensor.name === name)

/** The error for the adapter. */
function refusal(): StartupError {
  try {
    read()
  } catch (error) {
    expect(error).toBeInstanceOf(StartupError)
    if (error instanceof StartupError) return error
  }
  throw new Error('the adapter was accepted')
}

test('an adapter is in the table of weights, and in the name and the digest of the model', () => {
  const plain = readCheckpoint(base.path)
  const { weights, name, digest, shape } = read()
  expect(name).toBe(`${basename(base.path)}+to-fork`)
  expect(shape).toEqual(plain.shape)
  expect(weights.files).toEqual([...plain.weights.files, join(adapter, TENSORS)])
  expect(entry(`${Q}.weight`)).toMatchObject({ file: 0, lora: { scale: 2, transposed: false } })
  expect(entry(`${Q}.weight.lora_A`)).toMatchObject({ file: 1, shape: [2, 8] })
  expect(entry(`${Q}.weight.lora_B`)).toMatchObject({ file: 1, shape: [8, 2] })
  expect(EngineConfig.safeParse(toEngineConfig(read(), {})).error).toBeUndefined()
  writeConfig({ lora_alpha: 5 })
  const other = read().digest
  expect(new Set([plain.digest, digest, other]).size).toBe(3)
})

test('the digest depends on the bytes of an adapter, not on its place', () => {
  const { digest } = read()
  const copy = join(adapter, '..', 'copy')
  cpSync(adapter, copy, { recursive: true })
  expect(readCheckpoint(base.path, { adapter: copy }).digest).toBe(digest)
  const bytes = readFileSync(join(copy, TENSORS))
  bytes[bytes.length - 2] = (bytes.at(-2) ?? 0) ^ 1
  writeFileSync(join(copy, TENSORS), bytes)
  expect(readCheckpoint(base.path, { adapter: copy }).digest).not.toBe(digest)
})

test.each<[string, Json, number]>([
  ['lora_alpha / r', {}, 2],
  ['use_rslora', { use_rslora: true }, 4 / Math.sqrt(2)],
  ['alpha_pattern', { alpha_pattern: { k_proj: 9, '.*layers\\.0.*': 7 } }, 3.5],
  ['alpha_pattern from the start', { alpha_pattern: { '^q_proj': 9, 'self_attn.q_proj': 6 } }, 3],
  ['rank_pattern', { r: 8, rank_pattern: { '^model\\.layers\\.\\d+\\.self_attn\\.(q_proj|k_proj)': 2 } }, 2],
])('the factor of LoRA by %s', (_, more, scale) => {
  writeConfig(more)
  expect(entry(`${Q}.weight`)?.lora?.scale).toBeCloseTo(scale, 12)
})

test('names of tensors may have the name of the adapter in them', () => {
  writeTensors({ [`${Q}.lora_A.default.weight`]: [2, 8], [`${Q}.lora_B.default.weight`]: [8, 2] })
  expect(entry(`${Q}.weight`)?.lora).toBeDefined()
})

test.each<[string, Json]>([
  ['an expression', { target_modules: '.*\\.q_proj' }],
  ['an expression that is not evaluated', { target_modules: '((?=.)q)+' }],
  ['all-linear', { target_modules: 'all-linear' }],
  ['none', { target_modules: null }],
  ['one with exceptions', { target_modules: ['q_proj', 'k_proj'], exclude_modules: ['k_proj'] }],
  ['of some layers', { target_modules: ['q_proj'], layers_to_transform: 0 }],
])('target_modules: %s', (_, more) => {
  writeConfig(more)
  expect(entry(`${Q}.weight`)?.lora).toBeDefined()
})

describe('embeddings', () => {
  const DELTA = `${EMBEDDING}.token_adapter.trainable_tokens_delta`

  test('trained tokens are rows of a tied table', () => {
    writeConfig({ trainable_token_indices: [259, 7] })
    writeTensors({ ...LORA, [DELTA]: [2, 8] })
    expect(entry(`${EMBEDDING}.weight`)).toMatchObject({ shape: [VOCAB_SIZE, 8], replacedRows: [259, 7] })
    expect(entry(`${EMBEDDING}.weight.rows`)).toMatchObject({ file: 1, shape: [2, 8] })
    expect(read().shape.tieWordEmbeddings).toBe(true)
  })

  test('a tied head that was trained on the same tokens needs no rows of its own', () => {
    writeConfig({ trainable_token_indices: { embed_tokens: [259, 7], lm_head: [259, 7] } })
    writeTensors({ ...LORA, [DELTA]: [2, 8] })
    expect(read().shape.tieWordEmbeddings).toBe(true)
  })

  test('new tokens make the vocabulary grow, if each has a row', () => {
    writeConfig({ trainable_token_indices: { embed_tokens: [261, 3, 260] } })
    writeTensors({ ...LORA, [DELTA]: [3, 8] })
    expect(read().shape.vocabSize).toBe(VOCAB_SIZE + 2)
    expect(entry(`${EMBEDDING}.weight`)).toMatchObject({
      shape: [VOCAB_SIZE, 8],
      replacedRows: [261, 3, 260],
    })
    writeConfig({ trainable_token_indices: { embed_tokens: [262, 3, 260] } })
    expect(refusal().message).toMatch(/embed_tokens\.weight: the base has 260 tokens, of the 263 here/)
    writeConfig({ trainable_token_indices: [2 ** 31 - 2, 3, 260] })
    expect(refusal().code).toBe('broken_checkpoint')
  })

  test('a table that is saved whole has the size of the vocabulary, larger or smaller', () => {
    writeConfig({ modules_to_save: ['embed_tokens', 'lm_head'] })
    for (const size of [VOCAB_SIZE + 3, VOCAB_SIZE]) {
      const names = [
        `${EMBEDDING}.weight`,
        'lm_head.modules_to_save.default.weight',
        'lm_head.original_module.weight',
      ]
      writeTensors({ ...LORA, ...Object.fromEntries(names.map((name) => [name, [size, 8]])) })
      expect(read().shape).toMatchObject({ vocabSize: size, tieWordEmbeddings: false })
      for (const name of [`${EMBEDDING}.weight`, 'lm_head.weight'])
        expect(entry(name)).toMatchObject({ file: 1, shape: [size, 8] })
    }
    writeTensors({ ...LORA, [`${EMBEDDING}.weight`]: [VOCAB_SIZE + 1, 8], 'lm_head.weight': [VOCAB_SIZE, 8] })
    expect(refusal().message).toMatch(/lm_head\.weight: has 260 tokens, .*embed_tokens\.weight has 261/)
  })

  test('a head of its own is no longer tied: the table stays as it is', () => {
    writeConfig({ target_modules: ['q_proj', 'lm_head'] })
    writeTensors({ ...LORA, 'lm_head.lora_A.weight': [2, 8], 'lm_head.lora_B.weight': [VOCAB_SIZE, 2] })
    expect(read().shape.tieWordEmbeddings).toBe(false)
    expect(entry('lm_head.weight')).toMatchObject({ file: 0, lora: { scale: 2 } })
    expect(entry(`${EMBEDDING}.weight`)).not.toHaveProperty('lora')
  })

  test.each<[string, Json, Record<string, number[]>, RegExp]>([
    ['too few rows', { trainable_token_indices: [1, 2, 3] }, { [DELTA]: [2, 8] }, /2 rows for 3/],
    ['a token twice', { trainable_token_indices: [3, 3] }, { [DELTA]: [2, 8] }, /has a token twice/],
    [
      'rows of another width',
      { trainable_token_indices: [3] },
      { [DELTA]: [1, 9] },
      /is \[1, 9\].* \[1, 8\]/,
    ],
    ['no tokens', {}, { [DELTA]: [1, 8] }, /1 rows for 0/],
    ['no rows', { trainable_token_indices: [3] }, {}, /embed_tokens: trainable_token_indices names it/],
    [
      'no rows of the head',
      { trainable_token_indices: { embed_tokens: [3], lm_head: [4] } },
      { [DELTA]: [1, 8] },
      /lm_head: trainable_token_indices names it/,
    ],
    ['tokens of another module', { trainable_token_indices: { norm: [1] } }, {}, /norm is neither/],
    [
      'LoRA and trained tokens of one table',
      { trainable_token_indices: [3], target_modules: ['q_proj', 'embed_tokens'] },
      {
        [DELTA]: [1, 8],
        'lm_head.token_adapter.trainable_tokens_delta': [1, 8],
        [`${EMBEDDING}.lora_embedding_A`]: [2, VOCAB_SIZE],
        [`${EMBEDDING}.lora_embedding_B`]: [8, 2],
      },
      /has LoRA and trained tokens/,
    ],
    [
      'trained tokens of a tied table beside a changed head',
      { trainable_token_indices: [3], modules_to_save: ['lm_head'] },
      { [DELTA]: [1, 8], 'lm_head.weight': [VOCAB_SIZE, 8] },
      /trained tokens of a tied embedding/,
    ],
  ])('%s', (_, config, tensors, message) => {
    writeConfig(config)
    writeTensors({ ...LORA, ...tensors })
    expect(refusal().message).toMatch(message)
  })
})

describe('files beside an adapter', () => {
  test('its tokenizer is used instead of the base’s, with the base’s template if it has none', () => {
    const tokenizer = tinyTokenizer()
    const added = tokenizer.added_tokens as Json[]
    added.push({ id: 260, content: '[New]', special: true })
    write('tokenizer.json', tokenizer)
    expect(refusal().message).toMatch(/tokenizer\.json: id 260 of "\[New\]"/)
    writeConfig({ trainable_token_indices: [260] })
    writeTensors({ ...LORA, [`${EMBEDDING}.token_adapter.trainable_tokens_delta`]: [1, 8] })
    const { text } = readCheckpoint(base.path)
    expect(read().text.tokenizer.added_tokens).toHaveLength(text.tokenizer.added_tokens.length + 1)
    expect(read().text.chatTemplate).toEqual(text.chatTemplate)
    write('chat_template.jinja', 'own')
    expect(read().text.chatTemplate?.source).toBe('own')
  })

  test('the rest of a tokenizer alone is refused', () => {
    write('tokenizer_config.json', tinyTokenizerConfig())
    expect(refusal().message).toMatch(/tokenizer_config\.json: tokenizer\.json is missing/)
  })

  test('its generation_config.json says how to sample, instead of the base’s', () => {
    base.write('generation_config.json', { do_sample: true, temperature: 0.7 })
    expect(read().sampling).toMatchObject({ temperature: 0.7, repetitionPenalty: 1 })
    write('generation_config.json', { repetition_penalty: 1.1, eos_token_id: 7 })
    expect(read().sampling).toMatchObject({ temperature: 0, repetitionPenalty: 1.1 })
    expect(read().tokens.eos).toEqual([...readCheckpoint(base.path).tokens.eos, 7])
    write('generation_config.json', { repetition_penalty: -1 })
    expect(refusal().message).toMatch(/generation_config\.json: repetition_penalty/)
  })

  test('its config.json may teach the base to fork, and must agree with it', () => {
    base.write('config.json', { ...tinyConfig(), apar: undefined })
    expect(read().tokens.fork).toBeUndefined()
    const { apar } = tinyConfig()
    write('config.json', { apar, hidden_size: 8, vocab_size: VOCAB_SIZE })
    expect(read().tokens).toMatchObject({ fork: 258, child: 259 })
    write('config.json', { apar, hidden_size: 16 })
    expect(refusal().message).toMatch(/config\.json: hidden_size: is 16, the base has 8/)
    write('config.json', { apar: { fork_token: '[Fork]' } })
    expect(refusal().message).toMatch(/config\.json: apar\.child_token/)
  })
})

describe('refused by name', () => {
  test.each<[string, Json]>([
    ['peft_type', { peft_type: 'IA3' }],
    ['bias', { bias: 'all' }],
    ['use_dora', { use_dora: true }],
    ['lora_bias', { lora_bias: true }],
    ['fan_in_fan_out', { fan_in_fan_out: true }],
    ['layer_replication', { layer_replication: [[0, 1]] }],
    ['alora_invocation_tokens', { alora_invocation_tokens: [1] }],
    ['init_lora_weights', { init_lora_weights: 'pissa_niter_4' }],
    ['rank_pattern', { rank_pattern: { '(a+)+': 2 } }],
    ['alpha_pattern', { alpha_pattern: { '(?:q)(?=_)': 2 } }],
    ['use_something_new', { use_something_new: { strength: 1 } }],
  ])('%s', (field, more) => {
    writeConfig(more)
    expect(refusal()).toMatchObject({ code: 'unsupported_checkpoint' })
    expect(refusal().message).toContain(`adapter_config.json: ${field}: `)
  })

  test.each<[string, Json]>([
    ['r', { r: 0 }],
    ['lora_alpha', { lora_alpha: null }],
    ['rank_pattern', { rank_pattern: { q_proj: 0 } }],
  ])('invalid: %s', (field, more) => {
    writeConfig(more)
    expect(refusal()).toMatchObject({ code: 'broken_checkpoint' })
    expect(refusal().message).toContain(`adapter_config.json: ${field}`)
  })

  test.each<[string, Record<string, number[]>, RegExp]>([
    ['a missing half', { [`${Q}.lora_A.weight`]: [2, 8] }, /q_proj\.lora_A\.weight: the other half/],
    [
      'a missing half of an embedding',
      { ...LORA, [`${EMBEDDING}.lora_embedding_B`]: [8, 2] },
      /target_modules/,
    ],
    [
      'another rank',
      { ...LORA, [`${Q}.lora_A.weight`]: [4, 8] },
      /lora_A\.weight: shape is \[4, 8\].*\[2, 8\]/,
    ],
    ['another base', { ...LORA, [`${Q}.lora_B.weight`]: [16, 2] }, /lora_B\.weight: shape is \[16, 2\]/],
    [
      'another layer',
      { ...LORA, 'model.layers.9.self_attn.q_proj.lora_A.weight': [2, 8] },
      /layers\.9.*no such module/,
    ],
    [
      'another target',
      { ...LORA, 'model.layers.0.mlp.up_proj.lora_A.weight': [2, 8] },
      /up_proj: target_modules/,
    ],
    ['no tensors of a target', { 'model.norm.weight': [8] }, /q_proj: target_modules names it/],
    ['DoRA', { ...LORA, [`${Q}.lora_magnitude_vector`]: [8] }, /lora_magnitude_vector: is not merged/],
    ['a bias', { ...LORA, [`${Q}.lora_B.bias`]: [8] }, /lora_B\.bias: is not merged/],
    ['whole and LoRA', { ...LORA, [`${Q}.weight`]: [8, 8] }, /q_proj is replaced and trained in parts/],
    [
      'a tensor twice',
      { ...LORA, [`${Q}.lora_A.default.weight`]: [2, 8] },
      /lora_A\.(default\.)?weight: .*q_proj has two/,
    ],
  ])('%s', (_, shapes, message) => {
    writeTensors(shapes)
    expect(refusal().message).toMatch(message)
    expect(refusal().message).toContain(join(adapter, TENSORS))
  })

  test('a factor that is no number', () => {
    write('adapter_config.json', '{"peft_type": "LORA", "r": 2, "lora_alpha": NaN}')
    expect(refusal().message).toMatch(/adapter_config\.json: is not valid JSON/)
    writeConfig({ lora_alpha: 1e300 })
    expect(refusal().message).toMatch(/lora_alpha gives the factor/)
  })

  test('a saved module that is not there', () => {
    writeConfig({ modules_to_save: ['lm_head'] })
    expect(refusal().message).toMatch(/lm_head: modules_to_save names it/)
  })

  test('a dtype, a torch file, a missing file, a path that is no folder', () => {
    const named = Object.entries(LORA).map(([name, shape]): [string, number[]] => [PREFIX + name, shape])
    const header = headerOf(new Map(named))
    for (const tensor of Object.values(header)) tensor.dtype = 'I32'
    write(TENSORS, safetensors(header))
    expect(refusal().message).toMatch(/q_proj\.lora_A\.weight: dtype I32 is not served/)
    rmSync(join(adapter, TENSORS))
    expect(refusal().message).toMatch(/adapter_model\.safetensors is missing/)
    write('adapter_model.bin', 'torch')
    expect(refusal()).toMatchObject({ code: 'unsupported_checkpoint' })
    rmSync(join(adapter, 'adapter_config.json'))
    expect(refusal().message).toMatch(/adapter_config\.json is missing/)
    adapter = join(adapter, 'adapter_model.bin')
    expect(refusal().message).toMatch(/adapter_model\.bin: an adapter is a folder/)
    adapter = join(adapter, '..')
  })
})

test('the default dtype of a quantised base with adapted layers is bf16, and that is said', () => {
  const { weights } = read()
  const quantised = (dtype: 'Q8_0' | 'Q4_0') => ({
    ...read(),
    weights: {
      ...weights,
      tensors: weights.tensors.map((tensor) => (tensor.file === 0 ? { ...tensor, dtype } : tensor)),
    },
  })
  expect(toEngineConfig(quantised('Q8_0'), {}).dtype).toBe('bf16')
  expect(dtypeNote(quantised('Q4_0'), {})).toMatch(/int4 weights .* computing in bf16/)
  expect(dtypeNote(quantised('Q4_0'), { dtype: 'int8' })).toBeUndefined()
  expect(toEngineConfig(read(), {}).dtype).toBe('f32')
  expect(dtypeNote(read(), {})).toBeUndefined()
})

test('no mutation of an adapter does anything but be accepted or refused with a sentence', () => {
  writeConfig({ trainable_token_indices: [260, 7], rank_pattern: { '.*\\.v_proj': 3 } })
  writeTensors({ ...LORA, [`${EMBEDDING}.token_adapter.trainable_tokens_delta`]: [2, 8] })
  const model = readCheckpoint(base.path)
  let state = 1
  const random = (below: number) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
  let accepted = 0
  for (const file of ['adapter_config.json', TENSORS]) {
    const whole = readFileSync(join(adapter, file))
    const text = file === TENSORS ? 8 + Number(whole.readBigUInt64LE()) : whole.length
    for (let run = 0; run < 1000; run++) {
      const changed = Buffer.from(whole)
      for (let change = 0; change <= random(2); change++) changed[random(text)] = random(2) * 64 + random(64)
      write(file, changed)
      try {
        const { shape, weights } = mergeAdapter(model, adapter)
        const merged = { ...model, shape, weights }
        expect(EngineConfig.safeParse(toEngineConfig(merged, {})).error).toBeUndefined()
        expect(shape.vocabSize).toBeLessThanOrEqual(VOCAB_SIZE + 2)
        accepted++
      } catch (error) {
        expect(error).toBeInstanceOf(StartupError)
      }
    }
    write(file, whole)
  }
  expect(accepted).toBeGreaterThan(20)
  expect(accepted).toBeLessThan(1000)
})

describe('expressions for modules', () => {
  test.each([
    ['.*\\.q_proj', 'model.layers.0.self_attn.q_proj', true],
    ['.*\\.(q|v)_proj', 'model.layers.0.self_attn.k_proj', false],
    ['model.layers.[0-9]+.mlp.up_proj', 'model.layers.12.mlp.up_proj', true],
    ['q_proj', 'model.layers.0.self_attn.q_proj', false],
  ])('%s, %s', (pattern, name, matches) => {
    expect(modulePattern(pattern)?.(name)).toBe(matches)
  })

  test.each(['(a+)+', '(a|a)*', '.*.*.*.*.*', 'a'.repeat(300), '(a)(a)(a)(a)(a)', '(', '[a-z]+', '(?=a)'])(
    'not evaluated: %s',
    (pattern) => expect(modulePattern(pattern)).toBeUndefined(),
  )
})
