import { beforeAll, expect, test } from 'vitest'
import { buildEdge } from '../../edge/build.mjs'
import { SCENARIOS } from '../chaos/scenarios.ts'

beforeAll(() => buildEdge())

// The limits' race is in test/edge/key-limits.test.ts.
test.each([
  ['drops', 12],
  ['kills', 2],
  ['evictions', 6],
  ['fuzz', 2_000],
  ['soak', 4],
])('%s, %i of them, cost nothing', { timeout: 180_000 }, async (name, size) => {
  const scenario = SCENARIOS[name]
  if (!scenario) throw new Error(`there is no ${name}`)
  const said: string[] = []
  const say = (line: string) => void said.push(line)
  const cases = await scenario.run({ size, seed: 1, log: say, record: () => {} })
  // In so short a time memory says nothing yet.
  const happened = cases.filter(({ goal, value }) => goal === 0 && value > 0)
  expect(happened, said.join('\n')).toEqual([])
  expect(cases.filter(({ goal }) => goal === 0).length).toBeGreaterThan(1)
})
