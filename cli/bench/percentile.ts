/**
 * The smallest value that at least `percent` % of the values do not exceed.
 * @throws Error when there are no values, or one is not finite.
 */
export function percentile(values: readonly number[], percent: number): number {
  if (values.length === 0) throw new Error('there is no percentile of no values')
  const wrong = values.findIndex((value) => !Number.isFinite(value))
  if (wrong >= 0)
    throw new Error(`value ${wrong} of ${values.length} is ${values[wrong]}: no percentile of that`)
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)] ?? Number.NaN
}
