export interface TurnLimits {
  /** No repetition begins that would probably end later, but for the first one. */
  readonly seconds: number
  readonly most: number
}

/**
 * Measures each way once in every repetition, in an order that turns with each, until the time is spent.
 * @returns for each repetition what the ways measured, in the order of `ways`.
 */
export async function inTurns<T>(
  ways: readonly ((repetition: number) => Promise<T>)[],
  { seconds, most }: TurnLimits,
  now: () => number = () => performance.now(),
): Promise<T[][]> {
  const begun = now()
  const repetitions: T[][] = []
  let longestMs = 0
  while (repetitions.length < most) {
    const repetition = repetitions.length
    const began = now()
    if (repetition > 0 && began + longestMs - begun > 1000 * seconds) break
    const measured = new Map<number, T>()
    const order = ways.map((_, index) => (index + repetition) % ways.length)
    for (const index of order) measured.set(index, (await ways[index]?.(repetition)) as T)
    repetitions.push(ways.map((_, index) => measured.get(index) as T))
    longestMs = Math.max(longestMs, now() - began)
  }
  return repetitions
}
