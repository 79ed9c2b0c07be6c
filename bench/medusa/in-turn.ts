import type { SpeculationUsage } from '../../shared/protocol/speculation.ts'
import { median } from '../report.ts'

/** One way to answer the same prompts. */
export interface Way {
  readonly name: string
  /** Answers all prompts; the texts, to be the same in every way that has the same `texts`. */
  readonly run: () => Promise<readonly string[]>
  /** Ways with the same word here must give the same texts. */
  readonly texts: string
  /** What was drafted in all of its runs; undefined when nothing was. */
  readonly drafts: () => SpeculationUsage | undefined
}

/** Wall-clock of each repetition by the way's name, in ms. */
export type Times = ReadonlyMap<string, readonly number[]>

/**
 * Runs all ways once uncounted, then `repetitions` times, in an order that turns with each repetition.
 * @throws Error when two ways that must give the same texts do not
 */
export async function inTurn(ways: readonly Way[], repetitions: number): Promise<Times> {
  const times = new Map(ways.map(({ name }) => [name, [] as number[]]))
  const expected = new Map<string, readonly string[]>()
  for (let repetition = -1; repetition < repetitions; repetition++) {
    for (const way of repetition % 2 === 0 ? ways : ways.toReversed()) {
      const begun = performance.now()
      const texts = await way.run()
      const wallMs = performance.now() - begun
      const before = expected.get(way.texts) ?? texts
      expected.set(way.texts, before)
      const other = texts.findIndex((text, index) => text !== before[index])
      if (other !== -1) throw new Error(`${way.name}: answer ${other} is not that of another way`)
      if (repetition >= 0) times.get(way.name)?.push(wallMs)
    }
  }
  return times
}

/** How many times as fast `way` is as `base`: the ratios of the repetitions. */
export function speedUp(
  times: Times,
  way: string,
  base: string,
): { value: number; low: number; high: number } {
  const ratios = (times.get(base) ?? []).map((ms, each) => ms / (times.get(way)?.[each] ?? Number.NaN))
  const round = (value: number) => Number(value.toPrecision(4))
  return {
    value: round(median(ratios)),
    low: round(Math.min(...ratios)),
    high: round(Math.max(...ratios)),
  }
}
