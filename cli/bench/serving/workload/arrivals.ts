/** When requests are due, in ms after the first one. */
export type ArrivalTimes = readonly number[]

/**
 * Arrivals of so many requests a second in the mean, the first one at 0. Gaps have a gamma distribution whose shape is the
 * burstiness, as in `vllm bench serve`: 1 is a Poisson process, less comes in bursts, more is more even.
 */
export function randomArrivals(
  count: number,
  { rate, burstiness }: { rate: number; burstiness: number },
  random: () => number,
): ArrivalTimes {
  const meanGapMs = 1000 / rate
  let at = 0
  return Array.from({ length: count }, (_, index) => {
    if (index > 0) at += (gamma(burstiness, random) * meanGapMs) / burstiness
    return at
  })
}

/** Recorded arrivals, stretched or compressed so that they come at `rate` a second in the mean. */
export function scaledArrivals(recorded: ArrivalTimes, rate: number): ArrivalTimes {
  const last = recorded.at(-1) ?? 0
  if (last === 0) return recorded
  const factor = ((1000 / rate) * (recorded.length - 1)) / last
  return recorded.map((at) => at * factor)
}

/** A sample of the gamma distribution with scale 1 (Marsaglia and Tsang, 2000). */
function gamma(shape: number, random: () => number): number {
  if (shape < 1) return gamma(shape + 1, random) * uniform(random) ** (1 / shape)
  const d = shape - 1 / 3
  const c = 1 / Math.sqrt(9 * d)
  for (;;) {
    const x = normal(random)
    const v = (1 + c * x) ** 3
    if (v > 0 && Math.log(uniform(random)) < x ** 2 / 2 + d - d * v + d * Math.log(v)) return d * v
  }
}

/** Box and Muller. */
function normal(random: () => number): number {
  return Math.sqrt(-2 * Math.log(uniform(random))) * Math.cos(2 * Math.PI * random())
}

/** Never 0, of which there is no logarithm. */
function uniform(random: () => number): number {
  return 1 - random()
}
