import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { readCheckpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import { GREEDY } from '../../gpu-node/checkpoint/generation-config.ts'
import { NO_DRY } from '../../gpu-node/engine/dry-sampling.ts'
import { StartupError } from '../../gpu-node/startup-error.ts'
import {
  headerOf,
  SPECIAL,
  safetensors,
  type TinyFolder,
  tinyCheckpoint,
  tinyConfig,
  tinyTensors,
  tinyTokenizer,
  tinyTokenizerConfig,
} from '../support/tiny-checkpoint.ts'

let folder: TinyFolder
beforeEach(() => {
  folder = tinyCheckpoint()
})
afterEach(() => folder.remove())

/** The error for the checkpoint in `folder`. */
function refusal(): StartupError {
  try {
    readCheckpoint(folder.path)
  } catch (error) {
    expect(error).toBeInstanceOf(StartupError)
    if (error instanceof StartupError) return error
  }
  throw new Error('the checkpoint was accepted')
}

test('reads shape, tensor table, tokens and sampling defaults from a complete folder', () => {
  folder.write('generation_config.json', {
    do_sample: true,
    temperature: 0.7,
    top_k: 40,
    eos_token_id: [257, 10],
  })
  const checkpoint = readCheckpoint(folder.path)
  expect(checkpoint.shape).toMatchObject({ numHeads: 2, numKvHeads: 1, headDim: 4, contextTokens: 256 })
  expect(checkpoint.tokens).toEqual({ fork: SPECIAL['[Fork]'], child: SPECIAL['[Child]'], eos: [257, 10] })
  expect(checkpoint.joints).toBe('kept')
  expect(checkpoint.sampling).toEqual({ ...GREEDY, temperature: 0.7, topK: 40 })
  expect(checkpoint.weights.tensors).toHaveLength(tinyTensors().size)
  expect(checkpoint.weights.files[0]).toMatch(/model\.safetensors$/)
})

test('without do_sample decoding is greedy, whatever the temperature is', () => {
  folder.write('generation_config.json', { temperature: 0.7 })
  expect(readCheckpoint(folder.path).sampling.temperature).toBe(0)
})

test('a chat template is read with the path of its file, and may be missing', () => {
  const template = () => readCheckpoint(folder.path).text.chatTemplate
  expect(template()?.file).toBe(join(folder.path, 'tokenizer_config.json'))
  folder.write('chat_template.jinja', 'own')
  expect(template()).toEqual({ source: 'own', file: join(folder.path, 'chat_template.jinja') })
  rmSync(join(folder.path, 'chat_template.jinja'))
  folder.write('tokenizer_config.json', { ...tinyTokenizerConfig(), chat_template: undefined })
  expect(template()).toBeUndefined()
})

test.each([
  ['rope_scaling of type default', { rope_scaling: { rope_type: 'default' } }],
  ['rope_scaling null', { rope_scaling: null }],
  ['a rotary factor of 1', { partial_rotary_factor: 1 }],
  [
    'rope_parameters',
    { rope_theta: undefined, rope_parameters: { rope_type: 'default', rope_theta: 10_000 } },
  ],
])('%s is no scaling', (_, more) => {
  folder.write('config.json', { ...tinyConfig(), ...more })
  expect(readCheckpoint(folder.path).shape.rope.theta).toBe(10_000)
})

test('usual values for "off" in generation_config.json are the defaults', () => {
  folder.write('generation_config.json', { do_sample: true, top_k: -1, top_p: 0 })
  expect(readCheckpoint(folder.path).sampling).toMatchObject({ topK: 0, topP: 1 })
  folder.write('generation_config.json', { do_sample: true, top_p: 1e-300 })
  expect(Math.fround(readCheckpoint(folder.path).sampling.topP)).toBeGreaterThan(0)
})

test("a folder's DRY settings are its defaults, and part of what it computes", () => {
  const plain = readCheckpoint(folder.path)
  folder.write('generation_config.json', { dry_base: 2 })
  const off = readCheckpoint(folder.path)
  folder.write('generation_config.json', { dry_multiplier: 0.8, dry_allowed_length: 3 })
  const on = readCheckpoint(folder.path)
  expect(on.sampling.dry).toEqual({ ...NO_DRY, multiplier: 0.8, allowedLength: 3 })
  expect(off.digest).toBe(plain.digest)
  expect(on.digest).not.toBe(plain.digest)
  folder.write('generation_config.json', { dry_multiplier: -1 })
  expect(() => readCheckpoint(folder.path)).toThrow(/generation_config\.json: dry_multiplier/)
})

test('a published APAR tokenizer forks without an apar object, and its joints are mended', () => {
  folder.write('config.json', { ...tinyConfig(), apar: undefined })
  const json = JSON.stringify(tinyTokenizer())
    .replace('[Fork]', '[SplitMask]')
    .replace('[Child]', '[SplitSop]')
  folder.write('tokenizer.json', json)
  expect(readCheckpoint(folder.path)).toMatchObject({ joints: 'mended', tokens: { fork: 258, child: 259 } })
})

test('the limits of branches and warnings of config.json are the checkpoint’s', () => {
  const branching = { fork_token: '[Fork]', child_token: '[Child]', joints: 'mended', max_branches: 4 }
  folder.write('config.json', { ...tinyConfig(), apar: undefined, branching, new_scale: 2 })
  expect(readCheckpoint(folder.path)).toMatchObject({
    joints: 'mended',
    branchLimits: { maxBranches: 4 },
    tokens: { fork: SPECIAL['[Fork]'], child: SPECIAL['[Child]'] },
    warnings: [expect.stringMatching(/config\.json: new_scale: is not known/)],
  })
})

test('buffers that follow from the configuration are ignored', () => {
  const derived = ['model.rotary_emb.inv_freq', 'model.layers.0.self_attn.rotary_emb.cos_cached']
  const tensors = tinyTensors()
  for (const name of derived) tensors.set(name, [2])
  folder.write('model.safetensors', safetensors(headerOf(tensors)))
  expect(readCheckpoint(folder.path).weights.tensors).toHaveLength(tinyTensors().size)
})

test('a model without fork tokens is decoded serially', () => {
  folder.write('config.json', { ...tinyConfig(), apar: undefined })
  expect(readCheckpoint(folder.path).tokens).toMatchObject({ fork: undefined, child: undefined })
})

test('a sharded checkpoint is read through its index', () => {
  const names = [...tinyTensors()]
  const shards = { 'a.safetensors': new Map(names.slice(0, 5)), 'b.safetensors': new Map(names.slice(5)) }
  const weight_map: Record<string, string> = {}
  for (const [file, tensors] of Object.entries(shards)) {
    folder.write(file, safetensors(headerOf(tensors)))
    for (const name of tensors.keys()) weight_map[name] = file
  }
  folder.write('model.safetensors.index.json', { weight_map })
  // The index is used only in folders without model.safetensors.
  const moved = tinyCheckpointWithoutWeights()
  const { weights } = readCheckpoint(moved)
  expect(weights.files).toHaveLength(2)
  expect(weights.tensors.map(({ file }) => file)).toContain(1)

  function tinyCheckpointWithoutWeights(): string {
    rmSync(join(folder.path, 'model.safetensors'))
    return folder.path
  }
})

describe('a one-line error names file and field', () => {
  const cases: [string, string, unknown, RegExp][] = [
    ['no JSON', 'config.json', '{', /config\.json: is not valid JSON/],
    [
      'a missing field',
      'config.json',
      { ...tinyConfig(), hidden_size: undefined },
      /config\.json: hidden_size/,
    ],
    ['a wrong type', 'config.json', { ...tinyConfig(), vocab_size: 'many' }, /config\.json: vocab_size/],
    [
      'another architecture',
      'config.json',
      { ...tinyConfig(), architectures: ['MixtralForCausalLM'] },
      /architectures: MixtralForCausalLM is not served/,
    ],
    [
      'a kind of scaling that is not computed',
      'config.json',
      { ...tinyConfig(), rope_scaling: { type: 'longrope' } },
      /rope_scaling\.type: only default.* are computed, not longrope/,
    ],
    [
      'a bias that the weights do not have',
      'config.json',
      { ...tinyConfig(), attention_bias: true },
      /model\.safetensors: tensor model\.layers\.0\.self_attn\.q_proj\.bias is missing/,
    ],
    [
      'quantised weights',
      'config.json',
      { ...tinyConfig(), quantization_config: { bits: 4 } },
      /quantization_config/,
    ],
    ['odd heads', 'config.json', { ...tinyConfig(), head_dim: 3 }, /head_dim/],
    [
      'the same of a branching object',
      'config.json',
      { ...tinyConfig(), apar: undefined, branching: { fork_token: '[Fork]', child_token: 'x' } },
      /tokenizer\.json: added_tokens: no "x" \(branching\.child_token\)/,
    ],
    [
      'a fork token that is not there',
      'config.json',
      { ...tinyConfig(), apar: { fork_token: 'x', child_token: '[Child]' } },
      /tokenizer\.json: added_tokens: no "x" \(apar\.fork_token\)/,
    ],
    ['nothing that ends an answer', 'tokenizer_config.json', { chat_template: 'x' }, /eos/],
    ['a broken tokenizer', 'tokenizer.json', { model: {} }, /tokenizer\.json: added_tokens/],
    [
      'a very long added token',
      'tokenizer.json',
      { ...tinyTokenizer(), added_tokens: [{ id: 0, content: 'a'.repeat(5_000_000) }] },
      /tokenizer\.json: added_tokens\.0\.content: Too big/,
    ],
    ['a temperature beyond the engine', 'generation_config.json', { temperature: 1e300 }, /: temperature/],
    ['a top_k beyond the engine', 'generation_config.json', { top_k: 2 ** 40 }, /: top_k/],
    ['a tiny penalty', 'generation_config.json', { repetition_penalty: 1e-40 }, /: repetition_penalty/],
    ['a huge penalty', 'generation_config.json', { repetition_penalty: 1e39 }, /: repetition_penalty/],
    ['sampling out of bounds', 'generation_config.json', { top_p: 2 }, /generation_config\.json: top_p/],
  ]
  test.each(cases)('%s', (name, file, content, message) => {
    if (name.startsWith('nothing')) folder.write('config.json', { ...tinyConfig(), eos_token_id: undefined })
    folder.write(file, typeof content === 'string' ? content : JSON.stringify(content))
    const { message: line } = refusal()
    expect(line).toMatch(message)
    expect(line).not.toContain('\n')
  })
})

describe('safetensors', () => {
  const first = 'model.embed_tokens.weight'

  test('a header longer than the file', () => {
    const bytes = safetensors(headerOf(tinyTensors()))
    bytes.writeBigUInt64LE(2n ** 60n)
    folder.write('model.safetensors', bytes)
    expect(refusal().message).toMatch(/header length .* does not fit/)
  })

  test('an empty file', () => {
    folder.write('model.safetensors', Buffer.alloc(3))
    expect(refusal().message).toMatch(/too short/)
  })

  test('a header that is no JSON', () => {
    const bytes = safetensors(headerOf(tinyTensors()))
    bytes.write('#', 8)
    folder.write('model.safetensors', bytes)
    expect(refusal().message).toMatch(/header is not valid JSON/)
  })

  test('data beyond the end of the file', () => {
    const header = headerOf(tinyTensors())
    folder.write('model.safetensors', safetensors(header, 100))
    expect(refusal().message).toMatch(/outside the file/)
  })

  test('tensors that overlap', () => {
    const header = headerOf(tinyTensors())
    const norm = header['model.norm.weight']
    if (norm) norm.data_offsets = [0, 32]
    folder.write('model.safetensors', safetensors(header))
    expect(refusal().message).toMatch(/overlaps/)
  })

  test('a size that does not fit the shape', () => {
    const header = headerOf(tinyTensors())
    const entry = header[first]
    if (entry) entry.shape = [1, 1]
    folder.write('model.safetensors', safetensors(header))
    expect(refusal().message).toMatch(/model\.embed_tokens\.weight: F32 \[1, 1\] takes 4 bytes/)
  })

  test('a missing tensor', () => {
    const tensors = tinyTensors()
    tensors.delete('model.norm.weight')
    folder.write('model.safetensors', safetensors(headerOf(tensors)))
    expect(refusal().message).toMatch(/tensor model\.norm\.weight is missing/)
  })

  test('a tensor of another shape than config.json asks for', () => {
    folder.write('model.safetensors', safetensors(headerOf(tinyTensors().set('model.norm.weight', [9]))))
    expect(refusal().message).toMatch(/model\.norm\.weight: shape is \[9\], the configuration asks for \[8\]/)
  })

  test('a tensor that the architecture does not have is refused, not ignored', () => {
    const extra = tinyTensors().set('model.layers.0.self_attn.q_proj.bias', [8])
    folder.write('model.safetensors', safetensors(headerOf(extra)))
    expect(refusal()).toMatchObject({ code: 'unsupported_checkpoint' })
  })

  test('quantised dtypes', () => {
    const header = headerOf(tinyTensors())
    const norm = header['model.norm.weight']
    if (norm)
      Object.assign(norm, { dtype: 'F64', data_offsets: [norm.data_offsets[0], norm.data_offsets[0] + 64] })
    const later = Object.entries(header).slice(2)
    for (const [, entry] of later)
      entry.data_offsets = [entry.data_offsets[0] + 32, entry.data_offsets[1] + 32]
    folder.write('model.safetensors', safetensors(header))
    expect(refusal().message).toMatch(/dtype F64 is not served/)
  })

  test('an index that points out of the folder', () => {
    rmSync(join(folder.path, 'model.safetensors'))
    for (const shard of ['../../etc/passwd', '\0', 'a\0.safetensors']) {
      folder.write('model.safetensors.index.json', { weight_map: { [first]: shard } })
      expect(refusal().message).toMatch(/".*" is not a file name/)
    }
  })
})

describe('files that are not what they should be', () => {
  const FILES = ['config.json', 'tokenizer.json', 'tokenizer_config.json', 'generation_config.json']
  const ALL = [...FILES, 'chat_template.jinja', 'model.safetensors', 'model.safetensors.index.json']
  const replace = (file: string): string => {
    rmSync(join(folder.path, file), { force: true })
    if (file === 'model.safetensors.index.json') rmSync(join(folder.path, 'model.safetensors'))
    return join(folder.path, file)
  }
  const lfs = 'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7414272\n'

  test.each(ALL)('%s', (file) => {
    const path = replace(file)
    execFileSync('mkfifo', [path])
    expect(refusal().message).toBe(`${path} is a FIFO, not a file`)
    rmSync(path)
    symlinkSync('/dev/zero', path)
    expect(refusal().message).toBe(`${path} is a device, not a file`)
    rmSync(path)
    mkdirSync(path)
    expect(refusal().message).toBe(`${path} is a folder, not a file`)
    rmSync(path, { recursive: true })
    writeFileSync(path, lfs)
    expect(refusal().message).toMatch(/is a Git LFS pointer, not the file itself/)
    expect(refusal().message).toContain(path)
  })

  test('a shard that is a FIFO', () => {
    const index = replace('model.safetensors.index.json')
    writeFileSync(index, JSON.stringify({ weight_map: { 'model.norm.weight': 'a.safetensors' } }))
    execFileSync('mkfifo', [join(folder.path, 'a.safetensors')])
    expect(refusal().message).toMatch(/a\.safetensors is a FIFO/)
  })

  test('text that is longer than any such file', () => {
    const path = replace('tokenizer.json')
    writeFileSync(path, '')
    truncateSync(path, 200 * 1024 * 1024)
    expect(refusal().message).toBe(`${path} is longer than ${128 * 1024 * 1024} bytes`)
  })
})
