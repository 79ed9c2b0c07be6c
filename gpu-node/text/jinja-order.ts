import type { Value } from './jinja-types.ts'

/** The order of two values in a template. @throws Error when Python has none. */
export function inOrder(left: Value, right: Value, isCaseSensitive = false): number {
  const [a, b] = [left, right].map(({ value }) =>
    typeof value === 'string' && !isCaseSensitive ? value.toLowerCase() : value,
  )
  if (typeof a === 'number' && typeof b === 'number') return a - b
  if (typeof a === 'string' && typeof b === 'string') return a < b ? -1 : Number(a > b)
  throw new Error(`cannot compare ${left.type} with ${right.type}`)
}
