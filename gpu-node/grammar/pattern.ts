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
