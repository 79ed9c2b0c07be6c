import { expect, test } from 'vitest'
import { dueTime, PacedEngine } from '../../bench/edge/paced-engine.ts'
import { EVENT, EVENT_WIDTH, FINISH } from '../../gpu-node/engine/engine-events.ts'
import { engineRequest } from '../support/engine-request.ts'

const TOKENS = { fork: 1, child: 2, text: 3 }

/** Runs one request; returns all its rows and the time of its first step. */
async function run(abortAfter = Number.POSITIVE_INFINITY) {
  const rows: number[][] = []
  let first = Number.NaN
  await new Promise<void>((resolve) => {
    const engine = new PacedEngine(
      {
        stepMs: 2,
        tokens: TOKENS,
        onBegun: (_, at) => {
          first = at
        },
      },
      (delivered) => {
        for (let row = 0; row < delivered.length; row += EVENT_WIDTH)
          rows.push([...delivered.subarray(row, row + EVENT_WIDTH)])
        if (rows.length > abortAfter) engine.abort(1)
        if (rows.at(-1)?.[0] === EVENT.FINISH) resolve()
      },
    )
    engine.submit(engineRequest({ id: 1, seed: 9, maxBranches: 4, maxTokens: 40 }))
  })
  return { rows, first }
}

test('forks into all branches, generates the requested letters, and ends all branches', async () => {
  const { rows } = await run()
  const of = (kind: number) => rows.filter(([each]) => each === kind)
  expect(of(EVENT.FORK).map(([, , parent, child]) => [parent, child])).toEqual([
    [0, 1],
    [0, 2],
    [0, 3],
  ])
  const tokens = of(EVENT.TOKEN).map(([, , , token]) => token)
  expect(tokens.filter((token) => token === TOKENS.fork)).toHaveLength(3)
  expect(tokens.filter((token) => token === TOKENS.child)).toHaveLength(3)
  expect(of(EVENT.BRANCH_END).map(([, , branch]) => branch)).toEqual([0, 1, 2, 3])
  expect(of(EVENT.FINISH)).toEqual([[EVENT.FINISH, 1, 0, FINISH.STOP, 0]])
})

test('generates letters in the order of their due times', async () => {
  const { rows, first } = await run()
  const lengths = [0, 0, 0, 0]
  const due = rows
    .filter(([kind, , , token]) => kind === EVENT.TOKEN && token === TOKENS.text)
    .map(([, , branch = 0]) => {
      const index = lengths[branch] ?? 0
      lengths[branch] = index + 1
      return dueTime({ first, branches: 4, stepMs: 2 }, branch, index)
    })
  expect(due).toEqual([...due].sort((a, b) => a - b))
  // Ten steps. The root has no letter in the steps in which it forks, a child none before its fork.
  expect(lengths).toEqual([7, 8, 7, 6])
})

test('an aborted request ends at once, with a single FINISH', async () => {
  const { rows } = await run(3)
  expect(rows.filter(([kind]) => kind === EVENT.FINISH)).toEqual([[EVENT.FINISH, 1, 0, FINISH.ABORT, 0]])
})
