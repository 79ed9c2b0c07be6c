import { expect, it } from 'vitest'
import { loadingLog } from '../../gpu-node/engine/loading-log.ts'

/** The lines of a load that reports every percent, `msPerPercent` apart. */
function lines(msPerPercent: number): string[] {
  const said: string[] = []
  let at = 0
  const report = loadingLog(
    (line) => said.push(line),
    () => at,
  )
  for (let percent = 1; percent <= 100; percent++) {
    at += msPerPercent
    report(percent * 5_000_000_000, 500_000_000_000)
  }
  return said
}

const said = (percents: number[]) => percents.map((percent) => `loading weights ${percent} %`)

it('says nothing of a load that takes less than a second', () => {
  expect(lines(9)).toEqual([])
})

it('says every tenth of a long load, not its end', () => {
  expect(lines(2000)).toEqual(said([10, 20, 30, 40, 50, 60, 70, 80, 90]))
})

it('says no more than a line a second', () => {
  expect(lines(45)).toEqual(said([23, 46, 69, 92]))
})
