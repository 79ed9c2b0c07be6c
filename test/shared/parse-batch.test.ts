import fc from 'fast-check'
import { expect, test } from 'vitest'
import { parseJson } from '../../shared/parse.ts'
import { NodeBatch } from '../../shared/protocol/node.ts'
import { parseBatch } from '../../shared/protocol/parse-batch.ts'
import { NODE_BATCHES } from '../chaos/fuzz/examples.ts'
import { mutated } from '../chaos/fuzz/mutations.ts'

const DELTAS = [
  { rows: [], events: [{ type: 'delta', seq: 0, branch: 0, text: 'a' }] },
  {
    rows: [1, 0, 300, 0, 1, 1, 301, 0],
    events: [
      { type: 'delta', seq: 7, branch: 0, text: 'Here' },
      { type: 'delta', seq: 8, branch: 2 ** 31 - 1, text: ' is' },
    ],
  },
]

function outcome(parse: () => NodeBatch) {
  try {
    return parse()
  } catch (error) {
    return String(error)
  }
}

test('gives the same result or error as the schema for every text', () => {
  const texts = fc.oneof(
    { weight: 3, arbitrary: mutated(DELTAS) },
    { weight: 1, arbitrary: mutated(NODE_BATCHES) },
  )
  fc.assert(
    fc.property(texts, (text) => {
      expect(outcome(() => parseBatch(text))).toEqual(outcome(() => parseJson(NodeBatch, text)))
    }),
    { numRuns: 5_000 },
  )
})

test.each([
  { seq: -1 },
  { seq: 0.5 },
  { branch: 2 ** 31 },
  { branch: '1' },
  { text: '' },
  { text: 1 },
  { type: 'fork' },
  { extra: 1, text: undefined },
])('refuses a delta with %j', (wrong) => {
  const text = JSON.stringify({
    rows: [],
    events: [{ type: 'delta', seq: 0, branch: 0, text: 'a', ...wrong }],
  })
  expect(() => parseBatch(text)).toThrow(/events\.0/)
})
