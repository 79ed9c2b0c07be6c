import { expect, test } from 'vitest'
import { PRE_TOKENIZERS, SENTENCEPIECE_WORDS } from '../../gpu-node/checkpoint/tokenizer/pre-tokenizers.ts'
import { checkPatterns } from '../../gpu-node/text/pattern-check.ts'

const none: ReadonlySet<string> = new Set()

function tokenizer(patterns: readonly string[]) {
  const pretokenizers = patterns.map((Regex) => ({
    type: 'Split',
    pattern: { Regex },
    behavior: 'Isolated',
    invert: false,
  }))
  const pre_tokenizer = { type: 'Sequence', pretokenizers }
  return { file: 'tokenizer.json', tokenizer: { added_tokens: [], model: { vocab: {} }, pre_tokenizer } }
}

// What start-up does not run (pattern-check.ts). One that backtracks without end would exceed the time of this test.
const KNOWN = [...PRE_TOKENIZERS].map(([name, { patterns }]) => [name, patterns] as const)

test.each([...KNOWN, ['of SentencePiece', [SENTENCEPIECE_WORDS]] as const])(
  'the patterns of the vocabulary %s come to an end',
  (_, patterns) => {
    const seen: string[] = []
    checkPatterns(tokenizer(patterns), (what) => seen.push(what), none)
    expect(seen.length).toBeGreaterThan(50 * patterns.length)
  },
)

test('a known pattern is not run again at start-up, any other is', () => {
  const seen: string[] = []
  const [, qwen2] = [...PRE_TOKENIZERS].find(([name]) => name === 'qwen2') ?? []
  checkPatterns(tokenizer([...(qwen2?.patterns ?? []), 'own']), (what) => seen.push(what))
  expect(seen.length).toBeGreaterThan(0)
  expect(seen.every((what) => what.includes('"own"'))).toBe(true)
})
