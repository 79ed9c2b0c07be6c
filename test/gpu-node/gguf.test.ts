import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Tokenizer } from '@huggingface/tokenizers'
import { afterAll, describe, expect, test } from 'vitest'
import { type GgufTensor, type GgufValue, ggufHeader, writeGguf } from '../../bench/peer/gguf.ts'
import { ggufName } from '../../bench/peer/llama-gguf.ts'
import { readCheckpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import { llamaTensors } from '../../gpu-node/checkpoint/llama-tensors.ts'
import { PLAIN_LLAMA, plainRope } from '../../gpu-node/checkpoint/plain-llama.ts'
import type { TokenizerFile } from '../../gpu-node/checkpoint/tokenizer/tokenizer-file.ts'
import type { ModelShape } from '../../gpu-node/engine/engine-config.ts'
import { StartupError } from '../../gpu-node/startup-error.ts'
import { tinyConfig, tinyTokenizer } from '../support/tiny-checkpoint.ts'

const folder = mkdtempSync(join(tmpdir(), 'apar-gguf-'))
afterAll(() => rmSync(folder, { recursive: true }))

const TOKENS = ['<unk>', '<s>', '</s>', '<role>', '▁', 'a', 'b', 'ab', '▁ab', '▁a']
const TYPES = [2, 3, 3, 4, 1, 1, 1, 1, 1, 1]
const SHAPE: ModelShape = {
  vocabSize: TOKENS.length,
  hiddenSize: 12,
  intermediateSize: 20,
  numLayers: 2,
  numHeads: 3,
  numKvHeads: 1,
  headDim: 4,
  contextTokens: 64,
  rmsNormEps: 0.5,
  rope: plainRope(20_000, 4),
  ...PLAIN_LLAMA,
  tieWordEmbeddings: true,
}
const METADATA: Record<string, GgufValue> = {
  'general.architecture': { string: 'llama' },
  'llama.context_length': { u32: SHAPE.contextTokens },
  'llama.embedding_length': { u32: SHAPE.hiddenSize },
  'llama.block_count': { u32: SHAPE.numLayers },
  'llama.feed_forward_length': { u32: SHAPE.intermediateSize },
  'llama.attention.head_count': { u32: SHAPE.numHeads },
  'llama.attention.head_count_kv': { u32: SHAPE.numKvHeads },
  'llama.attention.layer_norm_rms_epsilon': { f32: SHAPE.rmsNormEps },
  'llama.rope.dimension_count': { u32: SHAPE.headDim },
  'llama.rope.freq_base': { f32: SHAPE.rope.theta },
  'tokenizer.ggml.model': { string: 'llama' },
  'tokenizer.ggml.tokens': { strings: TOKENS },
  'tokenizer.ggml.scores': { f32s: TOKENS.map((_, id) => -id) },
  'tokenizer.ggml.token_type': { i32s: TYPES },
  'tokenizer.ggml.bos_token_id': { u32: 1 },
  'tokenizer.ggml.eos_token_id': { u32: 2 },
  'tokenizer.ggml.unknown_token_id': { u32: 0 },
  'tokenizer.chat_template': { string: '{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}' },
}

function tensors(): GgufTensor[] {
  return [...llamaTensors(SHAPE)].map(([name, shape]) => {
    const bytes = shape.reduce((product, size) => product * size, 4)
    return { name: ggufName(name), shape, type: 'F32', data: () => new Uint8Array(bytes) }
  })
}

let files = 0
function write(metadata: Record<string, GgufValue | undefined> = {}, stored = tensors()): string {
  const path = join(folder, `model-${files++}.gguf`)
  const entries = Object.entries({ ...METADATA, ...metadata })
  writeGguf(
    path,
    Object.fromEntries(entries.filter((entry): entry is [string, GgufValue] => !!entry[1])),
    stored,
  )
  return path
}

function refusal(path: string): StartupError {
  try {
    readCheckpoint(path)
  } catch (error) {
    if (error instanceof StartupError) return error
    throw error
  }
  throw new Error('the file was accepted')
}

test('reads shape, tensors, tokens and template of a file', () => {
  const path = write()
  const checkpoint = readCheckpoint(path)
  expect(checkpoint.shape).toEqual(SHAPE)
  expect(checkpoint.name).toBe('model-0')
  expect(checkpoint.weights.files).toEqual([path])
  expect(checkpoint.tokens).toEqual({ fork: undefined, child: undefined, eos: [2] })
  expect(checkpoint.text.named).toEqual({ bos_token: '<s>', eos_token: '</s>', unk_token: '<unk>' })
  expect(checkpoint.text.rawPrefix).toBe('<s>')
  const entry = (name: string) => checkpoint.weights.tensors.find((tensor) => tensor.name === name)
  expect(checkpoint.weights.tensors).toHaveLength(llamaTensors(SHAPE).size)
  // Rows of q and k are interleaved for each head in this architecture, those of v are not.
  expect(entry('model.layers.1.self_attn.q_proj.weight')).toMatchObject({ interleavedHeads: 3, dtype: 'F32' })
  expect(entry('model.layers.1.self_attn.k_proj.weight')).toMatchObject({ interleavedHeads: 1 })
  expect(entry('model.layers.1.self_attn.v_proj.weight')).not.toHaveProperty('interleavedHeads')
})

describe('the tokenizer', () => {
  const encode = (file: TokenizerFile, text: string) =>
    new Tokenizer(file, { clean_up_tokenization_spaces: false }).encode(text, { add_special_tokens: false })
      .ids

  test('of SentencePiece merges the pair of the best score first, and puts a space before the text', () => {
    // "▁a" has a lower score than "ab", so "▁ab" is made of "▁" and "ab".
    const { text } = readCheckpoint(write())
    expect(encode(text.tokenizer, 'ab')).toEqual([8])
    expect(encode(text.tokenizer, 'a b')).toEqual([9, 4, 6])
    expect(encode(text.tokenizer, '</s>a')).toEqual([2, 9])
    const plain = readCheckpoint(write({ 'tokenizer.ggml.add_space_prefix': { bool: false } }))
    expect(encode(plain.text.tokenizer, 'ab')).toEqual([7])
  })

  test('of bytes splits text as `pre` says, before its merges', () => {
    const tokens = ['<s>', '1', '2', '12', 'Ġ', '</s>', 'x', '3', ' ', 'a']
    const bytes = {
      'tokenizer.ggml.model': { string: 'gpt2' },
      'tokenizer.ggml.tokens': { strings: tokens },
      'tokenizer.ggml.merges': { strings: ['1 2'] },
      'tokenizer.ggml.token_type': { i32s: [3, 1, 1, 1, 1, 3, 1, 1, 1, 1] },
      'tokenizer.ggml.bos_token_id': { u32: 0 },
      'tokenizer.ggml.eos_token_id': { u32: 5 },
      'tokenizer.ggml.scores': undefined,
      'tokenizer.ggml.unknown_token_id': undefined,
    }
    const single = readCheckpoint(write({ ...bytes, 'tokenizer.ggml.pre': { string: 'smollm' } }))
    expect(encode(single.text.tokenizer, '12x 3')).toEqual([1, 2, 6, 4, 7])
    expect(single.text.rawPrefix).toBe('')
    const together = readCheckpoint(write({ ...bytes, 'tokenizer.ggml.pre': { string: 'llama-bpe' } }))
    expect(encode(together.text.tokenizer, '12x 3')).toEqual([3, 6, 4, 7])
    expect(together.text.rawPrefix).toBe('<s>')
    expect(refusal(write({ ...bytes, 'tokenizer.ggml.pre': { string: 'other' } })).message).toMatch(
      'tokenizer.ggml.pre: "other" is not known',
    )
  })
})

describe('a file is refused, and the error names it and what is wrong, when', () => {
  test.each([
    ['general.architecture', { string: 'mamba' }, '"mamba" is not served (llama, qwen2, qwen3, smollm3 are)'],
    ['general.architecture', { u32: 1 }, '1 is not served'],
    ['general.architecture', undefined, 'general.architecture'],
    ['llama.block_count', undefined, 'llama.block_count'],
    ['llama.block_count', { u32: 3 }, 'model.layers.2.input_layernorm.weight is missing'],
    ['llama.block_count', { string: 'two' }, 'llama.block_count'],
    [
      'llama.rope.scaling.type',
      { string: 'longrope' },
      'only none, linear and yarn are computed, not longrope',
    ],
    ['llama.rope.scaling.factor', { f32: -4 }, 'llama.rope.scaling.factor'],
    ['llama.rope.scaling.yarn_attn_factor', { f32: 1.5 }, 'llama.rope.scaling.yarn_attn_factor: 1.5 is not'],
    ['llama.rope.scaling.yarn_ext_factor', { f32: 0.5 }, 'llama.rope.scaling.yarn_ext_factor: 0.5 is not'],
    [
      'llama.rope.dimension_count',
      { u32: 2 },
      'only whole heads of 4 are rotated in this architecture, not 2',
    ],
    ['llama.rope.dimension_count', { u32: 6 }, '6 of 4 elements of a head'],
    [
      'llama.rope.dimension_sections',
      { i32s: [1, 1] },
      'llama.rope.dimension_sections: [1,1] is not computed',
    ],
    ['llama.attention.causal', { bool: false }, 'llama.attention.causal: false is not computed (only true)'],
    ['llama.logit_scale', { f32: 0.5 }, 'llama.logit_scale: 0.5 is not computed'],
    ['llama.final_logit_softcapping', { f32: 30 }, 'llama.final_logit_softcapping: 30 is not computed'],
    ['tokenizer.ggml.token_type', undefined, 'tokenizer.ggml.token_type: is missing'],
    ['llama.expert_count', { u32: 8 }, 'llama.expert_count'],
    ['llama.attention.key_length', { u32: 2 ** 31 - 2 }, 'heads of 2147483646 elements are too large'],
    ['llama.attention.head_count_kv', { u32: 2 }, '2 does not divide 3 heads'],
    ['tokenizer.ggml.scores', { f32s: [1] }, 'tokenizer.ggml.scores: has 1 values for 10 tokens'],
    ['tokenizer.ggml.eos_token_id', { u32: 99 }, 'tokenizer.ggml.eos_token_id: 99'],
    ['tokenizer.ggml.eos_token_id', undefined, 'no token ends an answer'],
    ['general.alignment', { u32: 7 }, 'general.alignment'],
  ] as const)('%s is %o', (field, value, message) => {
    const path = write({ [field]: value })
    const error = refusal(path)
    expect(error.message).toContain(path)
    expect(error.message).toContain(message)
  })

  test('a tensor is missing, has another shape or is stored twice', () => {
    expect(refusal(write({}, tensors().slice(1))).message).toMatch('token_embd.weight is missing')
    const other = tensors().map((tensor) =>
      tensor.name === 'blk.0.attn_q.weight' ? { ...tensor, shape: [6, 24] } : tensor,
    )
    expect(refusal(write({}, other)).message).toMatch('self_attn.q_proj.weight: shape is [6, 24]')
    const [first] = tensors()
    if (first) expect(refusal(write({}, [...tensors(), first])).message).toMatch('stored twice')
  })

  test('it is cut off, at whatever byte', () => {
    const whole = readFileSync(write())
    const header = ggufHeader(METADATA, tensors()).length
    const path = join(folder, 'cut.gguf')
    for (let bytes = 0; bytes < whole.length; bytes += bytes < header ? 7 : 1009) {
      writeFileSync(path, whole.subarray(0, bytes))
      expect(refusal(path).message).toContain(path)
    }
  })

  test('it is a Git LFS pointer, or no file', () => {
    const path = join(folder, 'pointer.gguf')
    writeFileSync(path, 'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n')
    expect(refusal(path).message).toMatch('is a Git LFS pointer')
    expect(refusal(join(folder, 'nothing.gguf')).message).toMatch('nothing.gguf')
  })

  test('it is one of several in a folder, which must not have two formats at once', () => {
    const several = mkdtempSync(join(folder, 'several-'))
    cpSync(write(), join(several, 'a.gguf'))
    expect(readCheckpoint(several).name).toBe('a')
    expect(readCheckpoint(several).path).toBe(join(several, 'a.gguf'))
    cpSync(write(), join(several, 'b.gguf'))
    expect(refusal(several).message).toBe(
      `${several} has 2 .gguf files: give the path of one, such as ${several}/a.gguf`,
    )
    rmSync(join(several, 'b.gguf'))
    writeFileSync(join(several, 'config.json'), JSON.stringify(tinyConfig()))
    writeFileSync(join(several, 'tokenizer.json'), JSON.stringify(tinyTokenizer()))
    expect(refusal(several).message).toBe(`${several}/a.gguf: give the path of the file itself`)
    expect(refusal(mkdtempSync(join(folder, 'empty-'))).message).toMatch('config.json is missing')
  })

  test('it has an array of more values than any vocabulary', () => {
    const head = ggufHeader({}, [])
    head.writeBigUInt64LE(1n, 16)
    const entry = Buffer.alloc(8 + 1 + 4 + 4 + 8)
    entry.writeBigUInt64LE(1n, 0)
    entry.write('k', 8)
    entry.writeUInt32LE(9, 9)
    entry.writeBigUInt64LE(5_000_000n, 17)
    const path = join(folder, 'array.gguf')
    writeFileSync(path, Buffer.concat([head, entry, Buffer.alloc(5_000_000)]))
    expect(refusal(path).message).toMatch('k: an array of 5000000 values')
  })

  test('it claims sizes that it has no room for', () => {
    const whole = readFileSync(write())
    const path = join(folder, 'huge.gguf')
    for (const at of [8, 16]) {
      const changed = Buffer.from(whole)
      changed.writeBigUInt64LE(2n ** 60n, at)
      writeFileSync(path, changed)
      expect(refusal(path).message).toMatch('has no room for 115292150460684')
    }
  })
})

test('no mutation of a file does anything but be accepted or refused with a sentence', () => {
  const whole = readFileSync(write())
  const header = ggufHeader(METADATA, tensors()).length
  const path = join(folder, 'mutated.gguf')
  let state = 1
  const random = (below: number) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
  let refused = 0
  for (let run = 0; run < 2000; run++) {
    const changed = Buffer.from(whole)
    for (let change = 0; change <= random(3); change++) changed[random(header)] = random(256)
    writeFileSync(path, changed)
    try {
      readCheckpoint(path)
    } catch (error) {
      expect(error).toBeInstanceOf(StartupError)
      refused++
    }
  }
  expect(refused).toBeGreaterThan(500)
})
