// V8 ends the process for an array that is longer than any may be, and for values that do not fit beside each other. So
// a template's values are limited long before that, and its refusal says which.

/** What this reads of a value of the library's interpreter. */
interface Value {
  readonly value: unknown
}

/** Of one `range`. */
const MAX_RANGE = 1_000_000
/** UTF-16 code units: four times the longest request. */
const MAX_TEXT = 8 * 1024 * 1024
/** As many as the longest request splits into, twice. */
const MAX_LIST = 4 * 1024 * 1024

/** @throws Error for a value that no prompt needs. */
export function requireBounded<V extends Value>(value: V): V {
  const content = value.value
  if (typeof content === 'string' && content.length > MAX_TEXT)
    throw new Error(`a text of more than ${MAX_TEXT} characters`)
  if (Array.isArray(content) && content.length > MAX_LIST)
    throw new Error(`a list of more than ${MAX_LIST} values`)
  return value
}

type Function = (args: readonly Value[], ...more: unknown[]) => Value

/** `range`, for as many values as a template may ask for. */
export function boundedRange(range: Function): Function {
  return (args, ...more) => {
    const numbers = args.map(({ value }) => value)
    if (!numbers.every((value) => typeof value === 'number')) throw new Error('range() takes numbers')
    const [first = 0, second, step = 1] = numbers
    const span = second === undefined ? first : second - first
    if (span / step > MAX_RANGE) throw new Error(`range() of more than ${MAX_RANGE} values`)
    return range(args, ...more)
  }
}
