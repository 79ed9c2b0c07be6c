import { existsSync, readFileSync } from 'node:fs'
import { Tokenizer } from '@huggingface/tokenizers'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { BranchDecoder } from '../../gpu-node/text/branch-decoder.ts'
import { TokenBytes, tokenBytes } from '../../gpu-node/text/token-bytes.ts'
import { SPECIAL, tinyTokenizer } from '../support/tiny-checkpoint.ts'

const bytesOf = (tokenizer: unknown) => tokenBytes({ tokenizer: tokenizer as never, file: 'tokenizer.json' })

const LETTERS = '▁ab🙂é中'

/** A SentencePiece tokenizer with a few pieces and byte fallback. */
function sentencePiece() {
  const pieces = ['<unk>', '<s>', '</s>', ...bytePieces(), '▁', ...LETTERS, '▁ab', 'ab']
  return {
    added_tokens: [0, 1, 2].map((id) => ({
      id,
      content: pieces[id] ?? '',
      special: true,
      normalized: false,
    })),
    normalizer: null,
    pre_tokenizer: null,
    post_processor: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
      ],
    },
    model: {
      type: 'BPE',
      vocab: Object.fromEntries([...new Set(pieces)].map((piece, id) => [piece, id])),
      merges: [
        ['a', 'b'],
        ['▁', 'ab'],
      ],
      unk_token: '<unk>',
      byte_fallback: true,
      fuse_unk: true,
    },
  }
}

function bytePieces(): string[] {
  return Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`)
}

const STYLES = { 'byte-level': tinyTokenizer(), sentencepiece: sentencePiece() } as const

describe.each(Object.entries(STYLES))('%s', (_, file) => {
  const tokenizer = new Tokenizer(file, { clean_up_tokenization_spaces: false })
  const bytes = bytesOf(file)
  const decode = (ids: readonly number[]): { pieces: string[]; whole: string } => {
    const decoder = new BranchDecoder(bytes)
    const pieces = [...ids.map((id) => decoder.push(id)), decoder.flush()]
    return { pieces, whole: pieces.join('') }
  }

  test('any text is decoded unchanged, and no piece splits a character', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 40 }), (text) => {
        // ▁ stands for a space in these tokenizers.
        const wanted = text.toWellFormed().replaceAll('▁', '_')
        const ids = tokenizer.encode(wanted.replaceAll(' ', file === STYLES.sentencepiece ? '▁' : ' ')).ids
        const { pieces, whole } = decode(ids)
        expect(whole).toBe(wanted)
        for (const piece of pieces) expect(piece.isWellFormed()).toBe(true)
      }),
    )
  })

  test('random tokens decode to the same text as with the tokenizer library', () => {
    const known = Array.from({ length: 1000 }, (_, id) => id).filter((id) => bytes.of(id))
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...known), { minLength: 1, maxLength: 30 }), (ids) => {
        const whole = tokenizer.decode(ids, {
          skip_special_tokens: true,
          clean_up_tokenization_spaces: false,
        })
        // The library drops a byte order mark, BranchDecoder keeps it: such texts are excluded.
        fc.pre(!whole.includes('\ufeff') && !decode(ids).whole.includes('\ufeff'))
        expect(decode(ids).whole).toBe(whole)
      }),
    )
  })
})

test('an emoji in four tokens appears with its last byte', () => {
  const decoder = new BranchDecoder(bytesOf(tinyTokenizer()))
  const pieces = [...Buffer.from('🙂')].map((byte) => decoder.push(byte))
  expect(pieces).toEqual(['', '', '', '🙂'])
})

test('an incomplete character becomes U+FFFD on flush', () => {
  const decoder = new BranchDecoder(bytesOf(tinyTokenizer()))
  expect(decoder.push(0xf0)).toBe('')
  expect(decoder.flush()).toBe('\ufffd')
  expect(decoder.push('a'.charCodeAt(0))).toBe('a')
})

test('special tokens have no text, also in the middle of a character', () => {
  const decoder = new BranchDecoder(bytesOf(tinyTokenizer()))
  const ids = [0xc3, SPECIAL['[Fork]'], 0xa9]
  expect(ids.map((id) => decoder.push(id)).join('')).toBe('é')
})

test('only the one leading space that the tokenizer adds is dropped', () => {
  const decoder = new BranchDecoder(bytesOf(tinyTokenizer()), true)
  expect([...Buffer.from('  a b')].map((byte) => decoder.push(byte)).join('')).toBe(' a b')
})

const DEMO = 'models/demo/tokenizer.json'
describe.skipIf(!existsSync(DEMO))('the demo tokenizer', () => {
  const file = existsSync(DEMO) ? JSON.parse(readFileSync(DEMO, 'utf8')) : tinyTokenizer()
  const tokenizer = new Tokenizer(file, { clean_up_tokenization_spaces: false })
  const bytes = bytesOf(file)

  test('prompt and answer decoded together, minus the prompt, is the decoded answer', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'grapheme', minLength: 1 }),
        fc.string({ unit: 'grapheme', minLength: 1 }),
        (a, b) => {
          const [prompt, answer] = [a, b].map(
            (text) => tokenizer.encode(text.toWellFormed().replaceAll('▁', '_')).ids,
          )
          if (!prompt?.length || !answer?.length) return
          const options = { skip_special_tokens: true, clean_up_tokenization_spaces: false }
          const before = tokenizer.decode(prompt, options)
          const both = tokenizer.decode([...prompt, ...answer], options)
          const decoder = new BranchDecoder(bytes)
          const text = answer.map((id) => decoder.push(id)).join('') + decoder.flush()
          if (!both.includes('\ufeff') && !text.includes('\ufeff'))
            expect(text).toBe(both.slice(before.length))
        },
      ),
    )
  })
})

// native/test/test_stop.cpp has the same table: the engine must find a stop string at the token at which it is found here.
test.each([
  [[0xf0, 0x80, 0x80], 3],
  [[0xf0, 0x9f, 0x92], 1],
  [[0xed, 0xa0, 0x80], 3],
  [[0xf4, 0x90, 0x80, 0x80], 4],
  [[0xc0, 0xaf], 2],
  [[0x80, 0xc3], 2],
  [[0xf0, 0x9f, 0xf0, 0x9f], 2],
])('decodes the invalid bytes %j as %i replacement characters', (bytes, count) => {
  const decoder = new BranchDecoder(
    new TokenBytes(Uint8Array.of(...bytes, 0x21), Int32Array.of(0, bytes.length, bytes.length + 1)),
  )
  expect(decoder.push(0) + decoder.push(1)).toBe(`${'\ufffd'.repeat(count)}!`)
})
