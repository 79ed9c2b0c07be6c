import { expect, it } from 'vitest'
import { loadingLog } from '../../gpu-node/engine/loading-log.ts'

/** The lines logged by a load that reports every percent, `msPerPercent` apart. */
function lines(msPerPercent: number): string[] {
  const logged: string[] = []
  let at = 0
  const report = loadingLog(
    (line) => logged.push(line),
    () => at,
  )
  for (let percent = 1; percent <= 100; percent++) {
    at += msPerPercent
    report(percent * 5_000_000_000, 500_000_000_000)
  }
  return logged
}

const expectedLines = (percents: number[]) => percents.map((percent) => `loading weights ${percent} %`)

it('logs nothing for a load of less than a second', () => {
  expect(lines(9)).toEqual([])
})

it('logs every 10 % of a long load, but not 100 %', () => {
  expect(lines(2000)).toEqual(expectedLines([10, 20, 30, 40, 50, 60, 70, 80, 90]))
})

it('logs at most one line per second', () => {
  expect(lines(45)).toEqual(expectedLines([23, 46, 69, 92]))
})
