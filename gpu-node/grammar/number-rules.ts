/**
 * Without an end of its digits, a small model writes a third until nothing is left of `max_tokens`. What JSON.stringify,
 * and Python's json, write of a double has these at most, behind the point fewer where there are others in front of it.
 */
const MOST_DIGITS = 21
const MOST_DECIMALS = 22
const MOST_OTHER_DECIMALS = 16
/** Those of the largest double: `1.7976931348623157e+308`. */
const LARGEST = String(Number.MAX_VALUE).replace(/^1\.|e.*$/g, '')

const NEGATIVE = '-[0-9]{1,3}'
/** Readers of JSON take what is larger than any double for infinite, or refuse it. */
const OF_ANY = `([eE](${NEGATIVE}|\\+?[0-9]{1,2})|)`
const OF_LESS_THAN_TEN = `([eE](${NEGATIVE}|\\+?([0-9]{1,2}|[12][0-9]{2}|30[0-7]))|)`

const NUMBERS = [
  `0${decimals(MOST_DECIMALS)}${OF_ANY}`,
  `[1-9]${decimals(MOST_OTHER_DECIMALS)}${OF_LESS_THAN_TEN}`,
  `[1-9][0-9]{1,${MOST_DIGITS - 1}}${decimals(MOST_OTHER_DECIMALS)}${OF_ANY}`,
  `1(\\.${upTo(LARGEST)}|)[eE]\\+?308`,
]
/** Of a pattern the grammar engine makes one automaton, in a fraction of the time that it needs for rules of the same. */
const ANY_NUMBER = `basic_number ::= Regex(${JSON.stringify(`-?(${NUMBERS.join('|')})`)})`

function decimals(most: number): string {
  return `(\\.[0-9]{1,${most}}|)`
}

/** Up to as many digits, which are no larger. */
function upTo(digits: string): string {
  const [first, rest] = [Number(digits[0]), digits.slice(1)]
  if (rest === '') return `[0-${first}]`
  const below = first > 0 ? `[0-${first - 1}][0-9]{0,${rest.length}}|` : ''
  return `(${below}${first}(${upTo(rest)}|))`
}

/** Of a number without bounds, and rules of it. */
const OF_NUMBERS = /^basic_number(_\w+)? ::= .*\n?/gm
/** Texts are quoted, and patterns, too. The digits of a number with one bound have no end. */
const QUOTED_OR_ENDLESS = /"(?:\\.|[^"\\])*"|(\[1-9\] \w+)\{(\d+), -1\}/g

/** A schema's grammar, as xgrammar 0.2.9 prints it, in which each number has an end. */
export function withBoundedNumbers(ebnf: string): string {
  const rules = ebnf.replace(OF_NUMBERS, '').replace(QUOTED_OR_ENDLESS, (found, digits, least) => {
    return digits ? `${digits}{${least}, ${Math.max(least, MOST_DIGITS - 1)}}` : found
  })
  return `${rules.trimEnd()}\n${ANY_NUMBER}\n`
}
