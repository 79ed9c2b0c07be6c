import { expect, test } from 'vitest'
import { Usage } from '../../shared/protocol/events.ts'
import { GenerateRequest } from '../../shared/protocol/request.ts'
import { SpeculationUsage, sumSpeculation } from '../../shared/protocol/speculation.ts'

const heads = {
  drafted: 30,
  accepted: 11,
  heads: [
    { drafted: 20, accepted: 9 },
    { drafted: 10, accepted: 2 },
  ],
}
const ngrams = { drafted: 8, accepted: 5, ngram: { drafted: 8, accepted: 5 } }

test('the usage of several streams is summed for each head and for the n-grams', () => {
  const more = { drafted: 4, accepted: 3, heads: [{ drafted: 4, accepted: 3 }] }
  expect(sumSpeculation([heads, undefined, ngrams, more])).toEqual({
    drafted: 42,
    accepted: 19,
    heads: [
      { drafted: 24, accepted: 12 },
      { drafted: 10, accepted: 2 },
    ],
    ngram: { drafted: 8, accepted: 5 },
  })
})

test('a sum has no more sources than its parts, and without parts there is none', () => {
  expect(sumSpeculation([heads])).toEqual(heads)
  expect(sumSpeculation([ngrams, ngrams])).toEqual({
    ...{ drafted: 16, accepted: 10 },
    ngram: { drafted: 16, accepted: 10 },
  })
  expect(sumSpeculation([undefined])).toBeUndefined()
  expect(sumSpeculation([])).toBeUndefined()
})

test.each([
  ['without totals', { ngram: { drafted: 1, accepted: 1 } }],
  ['with a negative number', { drafted: 1, accepted: -1 }],
  ['with a fraction', { drafted: 1.5, accepted: 1 }],
  ['with an empty list of heads', { drafted: 1, accepted: 1, heads: [] }],
  ['with more heads than any model has', { drafted: 1, accepted: 1, heads: Array(65).fill(ngrams.ngram) }],
])('usage %s is refused', (_, usage) => {
  expect(SpeculationUsage.safeParse(usage).success).toBe(false)
})

test('usage of a source that is not known yet passes as its totals', () => {
  const counts = { prompt_tokens: 1, cached_prompt_tokens: 0, completion_tokens: 2, total_tokens: 3 }
  const speculation = { drafted: 3, accepted: 2, eagle: { drafted: 3, accepted: 2 } }
  const usage = Usage.parse({ ...counts, branches: [], apar: { speculation } })
  expect(usage.apar).toEqual({ speculation: { drafted: 3, accepted: 2 } })
})

test('a request names one of the sources', () => {
  const request = { model: 'demo', messages: [{ role: 'user', content: 'hi' }] }
  const accepted = ['auto', 'off', 'medusa', 'ngram', undefined].map((speculation) => ({ speculation }))
  for (const fields of accepted)
    expect(GenerateRequest.safeParse({ ...request, ...fields }).success).toBe(true)
  for (const speculation of ['eagle', 'heads', '', true, null, 1])
    expect(GenerateRequest.safeParse({ ...request, speculation }).success).toBe(false)
})
