import { beforeAll, expect, test } from 'vitest'
import { buildEdge } from '../../edge/build.mjs'
import { SCENARIOS } from '../chaos/scenarios.ts'

beforeAll(() => buildEdge())

// The race of concurrent requests for a key's limits is in test/edge/key-limits.test.ts.
test.each([
  ['drops', 12],
  ['kills', 2],
  ['evictions', 6],
  ['checkpoints', 4_000],
  ['fuzz', 2_000],
  ['soak', 4],
])('chaos scenario %s, size %i, finds no errors', { timeout: 180_000 }, async (name, size) => {
  const scenario = SCENARIOS[name]
  if (!scenario) throw new Error(`there is no ${name}`)
  const lines: string[] = []
  const log = (line: string) => void lines.push(line)
  const cases = await scenario.run({ size, seed: 1, log, record: () => {} })
  // Cases with another goal, such as memory growth, need a longer run.
  const errors = cases.filter(({ goal, value }) => goal === 0 && value > 0)
  expect(errors, lines.join('\n')).toEqual([])
  expect(cases.filter(({ goal }) => goal === 0).length).toBeGreaterThan(1)
})
