import { literal } from './ebnf-literal.ts'

/**
 * Rules of any text without `excluded`, of ASCII, in it: the automaton of Knuth, Morris and Pratt. Rule `prefix + n` has
 * what may follow n characters of `excluded`.
 */
export function rulesOfTextWithout(excluded: string, prefix: string): [name: string, body: string][] {
  const chars = [...new Set(excluded)]
  return Array.from(excluded, (_, state) => {
    const seen = excluded.slice(0, state)
    const steps = chars.flatMap((char) => {
      const next = longestBeginning(excluded, seen + char)
      if (next === excluded.length) return []
      return next > 0 ? [`${literal(char)} ${prefix}${next}`] : []
    })
    const others = chars.filter((char) => longestBeginning(excluded, seen + char) > 0)
    return [
      `${prefix}${state}`,
      ['""', `[^${others.map(inClass).join('')}] ${prefix}0`, ...steps].join(' | '),
    ]
  })
}

/** How much of the beginning of `text` is at the end of `seen`. */
function longestBeginning(text: string, seen: string): number {
  for (let length = Math.min(text.length, seen.length); length > 0; length--)
    if (seen.endsWith(text.slice(0, length))) return length
  return 0
}

function inClass(char: string): string {
  return /[\\\]^-]/.test(char) ? `\\${char}` : char
}
