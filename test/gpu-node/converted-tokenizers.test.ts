import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { readTokenizerFiles } from '../../gpu-node/checkpoint/tokenizer-files.ts'
import { StartupError } from '../../gpu-node/startup-error.ts'
import { openTokenizer } from '../../gpu-node/text/guarded-tokenizer.ts'
import { PromptEncoder } from '../../gpu-node/text/prompt-encoder.ts'
import { tokenBytes } from '../../gpu-node/text/token-bytes.ts'
import type { Json } from '../support/tiny-checkpoint.ts'

const GOLDEN = join(import.meta.dirname, '../golden')
const temporary = mkdtempSync(join(tmpdir(), 'apar-converted-'))
afterAll(() => rmSync(temporary, { recursive: true }))

const encode = (folder: string, text: string) => {
  const { tokenizer, file } = readTokenizerFiles(folder)
  return openTokenizer(tokenizer, file).encode(text, { add_special_tokens: false }).ids
}

function refusal(folder: string): StartupError {
  try {
    readTokenizerFiles(folder)
  } catch (error) {
    if (error instanceof StartupError) return error
    throw error
  }
  throw new Error('was not refused')
}

let copies = 0
/** A folder of a golden test with other files: objects as JSON, null removes one. */
function changed(folder: string, files: Record<string, Json | string | Uint8Array | null>): string {
  const copy = join(temporary, String(copies++))
  cpSync(join(GOLDEN, folder), copy, { recursive: true })
  for (const [name, content] of Object.entries(files)) {
    const raw = typeof content === 'string' || content instanceof Uint8Array
    if (content === null) rmSync(join(copy, name))
    else writeFileSync(join(copy, name), raw ? content : JSON.stringify(content))
  }
  return copy
}

/** Fields of protobuf's wire format: numbers as varints, other values as they are. */
function message(...fields: [number: number, value: number | string | Uint8Array][]): Uint8Array {
  const varint = (value: number): number[] =>
    value < 128 ? [value] : [(value % 128) + 128, ...varint(Math.floor(value / 128))]
  return Buffer.concat(
    fields.map(([number, value]) => {
      if (typeof value === 'number') return Buffer.from([...varint(number * 8), ...varint(value)])
      const bytes = Buffer.from(value as Uint8Array)
      return Buffer.concat([Buffer.from([...varint(number * 8 + 2), ...varint(bytes.length)]), bytes])
    }),
  )
}

const float = (value: number) => {
  const bytes = Buffer.alloc(5)
  bytes[0] = 2 * 8 + 5
  bytes.writeFloatLE(value, 1)
  return bytes
}

/** A SentencePiece model whose pieces are [text, type, score]. */
function model(
  pieces: [text: string, type: number, score?: number][],
  trainer: [number, number][] = [],
  normalizer: [number, number | string][] = [],
): Uint8Array {
  return Buffer.concat([
    ...pieces.map(([text, type, score = 0]) =>
      message([1, Buffer.concat([message([1, text]), float(score), message([3, type])])]),
    ),
    message([2, message([3, 2], ...trainer)]),
    message([3, message(...normalizer)]),
  ])
}

const PIECES: [string, number, number?][] = [
  ['<unk>', 2],
  ['<s>', 3],
  ['</s>', 3],
  ['▁', 1, -9],
  ['a', 1, -9],
  ['b', 1, -9],
  ['ab', 1, -1],
]

describe('a tokenizer without tokenizer.json encodes as transformers in Python does', () => {
  const folders = ['sentencepiece', 'vocab-merges'].flatMap((kind) =>
    readdirSync(join(GOLDEN, kind), { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => join(kind, name)),
  )

  test.each(folders)('%s', (name) => {
    const folder = join(process.env.GOLDEN_TOKENIZERS ?? GOLDEN, name)
    const { tokenizer, file } = readTokenizerFiles(folder)
    const encoder = openTokenizer(tokenizer, file)
    const lines = readFileSync(join(folder, 'encoded.jsonl'), 'utf8').trimEnd().split('\n')
    expect(lines.length).toBeGreaterThan(30)
    const wrong = lines
      .map((line) => JSON.parse(line) as { text: string; ids: number[] })
      .map(({ text, ids }) => ({ text, ids, ours: encoder.encode(text, { add_special_tokens: false }).ids }))
      .filter(({ ids, ours }) => JSON.stringify(ids) !== JSON.stringify(ours))
    expect(wrong).toEqual([])
  })
})

describe('what the files beside a tokenizer.model say', () => {
  test('the special tokens, from tokenizer_config.json and special_tokens_map.json, or from the model itself', () => {
    const named = (files: Parameters<typeof changed>[1]) =>
      readTokenizerFiles(changed('sentencepiece/legacy', files)).named
    const own = { bos_token: '<s>', eos_token: '</s>', unk_token: '<unk>' }
    expect(named({ 'tokenizer_config.json': null })).toEqual(own)
    const map = { 'special_tokens_map.json': { eos_token: { content: '<unk>' }, pad_token: '<s>' } }
    const config = { eos_token: '</s>', bos_token: null }
    expect(named({ 'tokenizer_config.json': config, ...map })).toEqual({
      ...{ eos_token: '<unk>', unk_token: '<unk>', pad_token: '<s>' },
    })
    const withDecoder = { ...config, added_tokens_decoder: {} }
    expect(named({ 'tokenizer_config.json': withDecoder, ...map })).toMatchObject({ eos_token: '</s>' })
  })

  test('whether a raw prompt begins with BOS', () => {
    const prefix = (config: Json) =>
      readTokenizerFiles(changed('sentencepiece/legacy', { 'tokenizer_config.json': config })).rawPrefix
    expect(prefix({})).toBe('<s>')
    expect(prefix({ add_bos_token: true })).toBe('<s>')
    expect(prefix({ add_bos_token: false })).toBe('')
    expect(readTokenizerFiles(join(GOLDEN, 'vocab-merges/gpt2')).rawPrefix).toBe('')
  })

  test('the space before a text comes in front of a raw prompt, though BOS is in front of it', () => {
    const folder = changed('sentencepiece/newer', {})
    const ids = [...new PromptEncoder(readTokenizerFiles(folder)).encodeRaw('The engine', 100)]
    expect(ids).toEqual([1, ...encode(folder, 'The engine')])
    expect(ids).not.toEqual(encode(folder, '<s>The engine'))
  })

  test('text of a user never becomes one of its tokens', () => {
    const files = readTokenizerFiles(join(GOLDEN, 'sentencepiece/apar'))
    const encoder = new PromptEncoder(files, [400, 401])
    const bytesOf = tokenBytes(files)
    const text = 'a [SplitMask]<s></s><unk>[SplitSop]'
    const [bos, ...ids] = encoder.encodeRaw(text, 1000)
    expect(bos).toBe(1)
    expect(ids.filter((id) => [0, 1, 2, 400, 401].includes(id))).toEqual([])
    const bytes = Buffer.concat(ids.map((id) => bytesOf.of(id) ?? Buffer.from(`<${id}>`)))
    expect(bytes.toString()).toBe(` ${text}`)
  })
})

describe('a folder is refused, and the error names the file and what is wrong, when', () => {
  test.each<[what: string, file: string | Uint8Array, message: RegExp]>([
    ['no model', '', /tokenizer\.model is no SentencePiece model: it has no pieces/],
    ['text', 'hello', /tokenizer\.model is no SentencePiece model/],
    ['a tiktoken vocabulary', 'IQ== 0\nIg== 1\n', /tokenizer\.model is a tiktoken vocabulary/],
    ['a Git LFS pointer', 'version https://git-lfs.github.com/spec/v1\n', /is a Git LFS pointer/],
    ['Unigram', model(PIECES, [[3, 1]]), /has a model of type Unigram: only BPE is served/],
    ['a model of words', model(PIECES, [[3, 3]]), /has a model of type Word/],
    ['spaces as suffixes', model(PIECES, [[24, 1]]), /sets treat_whitespace_as_suffix/],
    ['spaces that are kept', model(PIECES, [], [[5, 0]]), /sets escape_whitespaces off/],
    ['a charsmap', model(PIECES, [], [[2, 'xxxx']]), /precompiled_charsmap/],
    ['an unused piece', model([...PIECES, ['ba', 5, -2]]), /the piece "ba" is of type unused/],
    ['a score that is none', model([['a', 1, Number.NaN]]), /piece 0: its score is no number/],
    ['a very long piece', model([['x'.repeat(600), 1]]), /piece 0 has 600 characters/],
    ['a huge field', Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]), /a field of /],
    ['a number without end', Buffer.from(Array(20).fill(0xff)), /a number of more than 64 bits/],
    ['a group', Buffer.from([0x0b, 0x0c]), /wire type 3/],
  ])('tokenizer.model is %s', (_, file, message) => {
    const folder = changed('sentencepiece/legacy', { 'tokenizer.model': file })
    expect(refusal(folder).message).toContain(join(folder, 'tokenizer.model'))
    expect(refusal(folder).message).toMatch(message)
  })

  test.each<[file: string, content: Json | string, message: RegExp]>([
    ['tokenizer_config.json', { added_tokens_decoder: { x: { content: 'y' } } }, /added_tokens_decoder/],
    ['tokenizer_config.json', { added_tokens_decoder: { 9: {} } }, /added_tokens_decoder\.9\.content/],
    [
      'tokenizer_config.json',
      { added_tokens_decoder: { 9: { content: 'y', single_word: true } } },
      /single_word of "y"/,
    ],
    ['tokenizer_config.json', { legacy: 'no' }, /legacy/],
    ['special_tokens_map.json', { bos_token: 7 }, /bos_token/],
    ['added_tokens.json', { '[x]': 2 ** 40 }, /added_tokens\.json: \[x\]/],
    ['added_tokens.json', '{', /added_tokens\.json: is not valid JSON/],
  ])('%s is %o', (file, content, message) => {
    const without = { 'tokenizer_config.json': {} }
    const folder = changed('sentencepiece/legacy', { ...without, [file]: content })
    expect(refusal(folder).message).toContain(join(folder, file))
    expect(refusal(folder).message).toMatch(message)
  })

  test.each<[what: string, files: Parameters<typeof changed>[1], message: RegExp]>([
    [
      'a class that is not known',
      { 'tokenizer_config.json': { tokenizer_class: 'CLIPTokenizer' } },
      /"CLIPTokenizer"/,
    ],
    ['no class', { 'tokenizer_config.json': {} }, /tokenizer_class: null of vocab\.json/],
    [
      'a space before the text',
      { 'tokenizer_config.json': { tokenizer_class: 'GPT2Tokenizer', add_prefix_space: true } },
      /add_prefix_space is not served/,
    ],
    ['a merge of three', { 'merges.txt': '#version: 0.2\na b\na b c\n' }, /merges\.txt: "a b c" is no merge/],
    [
      'no merges',
      { 'merges.txt': null },
      /tokenizer\.json is missing, and so are tokenizer\.model, and vocab\.json/,
    ],
    ['an id below 0', { 'vocab.json': { a: -1 } }, /vocab\.json: a/],
  ])('vocab.json and merges.txt have %s', (_, files, message) => {
    expect(refusal(changed('vocab-merges/qwen2', files)).message).toMatch(message)
  })

  test('tokenizer.model is cut off, or changed anywhere: it is read or refused with a sentence', () => {
    const whole = readFileSync(join(GOLDEN, 'sentencepiece/apar/tokenizer.model'))
    const folder = changed('sentencepiece/apar', {})
    let state = 1
    const random = (below: number) => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0
      return Math.floor((state / 2 ** 32) * below)
    }
    let refused = 0
    for (let run = 0; run < 400; run++) {
      const bytes = Buffer.from(run % 4 === 0 ? whole.subarray(0, random(whole.length)) : whole)
      if (run % 4 > 0)
        for (let change = 0; change <= random(3); change++) bytes[random(bytes.length)] = random(256)
      writeFileSync(join(folder, 'tokenizer.model'), bytes)
      try {
        readTokenizerFiles(folder)
      } catch (error) {
        expect(error).toBeInstanceOf(StartupError)
        refused++
      }
    }
    expect(refused).toBeGreaterThan(100)
  })
})
