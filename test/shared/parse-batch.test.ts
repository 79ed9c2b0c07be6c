import fc from 'fast-check'
import { expect, test } from 'vitest'
import { parseJson } from '../../shared/parse.ts'
import { NodeBatch } from '../../shared/protocol/node.ts'
import { parseBatch } from '../../shared/protocol/parse-batch.ts'
import { damaged } from '../chaos/fuzz/damage.ts'
import { NODE_BATCHES } from '../chaos/fuzz/examples.ts'

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

test('says of every text what the schema says, whichever way it is read', () => {
  const texts = fc.oneof(
    { weight: 3, arbitrary: damaged(DELTAS) },
    { weight: 1, arbitrary: damaged(NODE_BATCHES) },
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
])('a delta with %j is none', (wrong) => {
  const text = JSON.stringify({
    rows: [],
    events: [{ type: 'delta', seq: 0, branch: 0, text: 'a', ...wrong }],
  })
  expect(() => parseBatch(text)).toThrow(/events\.0/)
})
