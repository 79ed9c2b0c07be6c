/** A pattern of a schema, as the grammar engine gets it. */
export function enginePattern(pattern: string): string {
  return withShortRepetitions(withoutOptionalGroups(pattern))
}

/**
 * The same pattern without `(…)?`, which xgrammar 0.2.9 gets wrong where the group ends with a repetition: for it
 * `(x[0-9]+)?` matches `5`. Written as `(…|)` it is right.
 */
export function withoutOptionalGroups(pattern: string): string {
  let out = ''
  let inClass = false
  for (let at = 0; at < pattern.length; at++) {
    const char = pattern[at] ?? ''
    if (char === '\\') {
      out += char + (pattern[++at] ?? '')
    } else if (!inClass && char === ')' && pattern[at + 1] === '?') {
      // A lazy one matches the same texts.
      at += pattern[at + 2] === '?' ? 2 : 1
      out += '|)'
    } else {
      if (char === '[') inClass = true
      else if (char === ']') inClass = false
      out += char
    }
  }
  return out
}

/** Of more than 128 times one character, xgrammar 0.2.9 makes masks that take 20 ms. */
const MOST_TIMES = 128
const ESCAPE_REPEATED_OR_OTHER =
  /(?:(\\[dDwWsS]|\\[^\w\s]|\[(?:\\.|[^\\\]])+\]|[^\\^$*+?()[\]{}|])\{(\d+)(,?)(\d*)\}\??)|\\.|\[(?:\\.|[^\\\]])+\]|./gsu

/** The same pattern with several shorter repetitions of a character for a long one. */
export function withShortRepetitions(pattern: string): string {
  return pattern.replace(ESCAPE_REPEATED_OR_OTHER, (found, char, least, comma, most) => {
    if (char === undefined || Math.max(least, most) <= MOST_TIMES) return found
    const rest = comma && most === '' ? `${char}*` : upTo(char, (most || least) - least)
    return `${exactly(char, Number(least))}${rest}`
  })
}

function exactly(char: string, times: number): string {
  const whole = `${char}{${MOST_TIMES}}`.repeat(Math.floor(times / MOST_TIMES))
  return times % MOST_TIMES > 0 ? `${whole}${char}{${times % MOST_TIMES}}` : whole
}

/** Of any text there is one way through it: with several, each mask would follow all of them. */
function upTo(char: string, times: number): string {
  if (times === 0) return ''
  if (times <= MOST_TIMES) return `${char}{0,${times}}`
  const longer = `${char}{${MOST_TIMES}}${upTo(char, times - MOST_TIMES)}`
  return `(${char}{0,${MOST_TIMES - 1}}|${longer})`
}
