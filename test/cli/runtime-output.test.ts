import { expect, it } from 'vitest'
import { RuntimeOutput } from '../../cli/local/runtime-output.ts'

it('what the runtime complains of is limited, and all of our log passes', () => {
  const written: string[] = []
  const output = new RuntimeOutput((line) => written.push(line))
  for (let i = 0; i < 1000; i++) output.line(`error: Uncaught exception ${i}`, i)
  expect(written).toHaveLength(20)
  for (let i = 0; i < 100; i++) output.line('{"level":"info"}', 1000)
  expect(written).toHaveLength(120)
  output.line('error: another', 10_000)
  expect(written.slice(120)).toEqual([
    '(980 more lines of the Workers runtime were left out)',
    'error: another',
  ])
})
