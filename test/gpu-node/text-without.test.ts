import fc from 'fast-check'
import { expect, test } from 'vitest'
import { rulesOfTextWithout } from '../../gpu-node/grammar/text-without.ts'

/** Whether the rules have the text: each has one step for any character. */
function accepts(rules: readonly [string, string][], text: string): boolean {
  let body: string | undefined = rules[0]?.[1]
  for (const char of text) {
    const next: string | undefined = body
      ?.split(' | ')
      .map((step) => /^(?:"(?<only>.)"|\[\^(?<not>.*)\]) (?<rule>\w+)$/u.exec(step)?.groups)
      .find(
        (step) => step && (step.only === undefined ? !step.not?.includes(char) : step.only === char),
      )?.rule
    body = rules.find(([name]) => name === next)?.[1]
    if (body === undefined) return false
  }
  return body?.startsWith('"" | ') ?? false
}

test.each(['</parameter>', 'aab', 'abab', 'aaa', 'x'])('texts without %s', (excluded) => {
  const rules = rulesOfTextWithout(excluded, 'r')
  const piece = fc.oneof(
    fc.constantFrom(...excluded, 'é', '😀'),
    fc.nat(excluded.length).map((end) => excluded.slice(0, end)),
  )
  const texts = fc.array(piece, { maxLength: 8 }).map((pieces) => pieces.join(''))
  fc.assert(
    fc.property(texts, (text) => {
      expect(accepts(rules, text)).toBe(!text.includes(excluded))
    }),
    { numRuns: 500 },
  )
})
