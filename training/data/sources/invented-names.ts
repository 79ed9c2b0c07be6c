import { shuffled } from '../random.ts'
import type { TldrPage } from './tldr-answers.ts'

const CONSONANTS = 'bcdfghjklmnpqrstvwxz'
const VOWELS = 'aeiouy'
const SEPARATORS = ['-', '', '', '_']

/**
 * Renames a page's command to one that does not exist: `tar` and every mention of it become, for example,
 * `vodk-ri`. With such copies a model learns to copy the name from the question instead of memorising it.
 */
export function underInventedName(page: TldrPage, random: () => number): TldrPage {
  const names = new Map(page.title.split(' ').map((word) => [word, inventedName(random)]))
  // A subcommand (`push`) is also an ordinary word, so it is renamed only after its command.
  const [command = '', ...rest] = page.title.split(' ')
  const words = [command, ...rest].map(escaped)
  const mention = new RegExp(
    `(?<![\\w-])${words[0]}${words[1] === undefined ? '' : `(?: ${words[1]})?`}(?![\\w-])`,
    'g',
  )
  const rename = (text: string) =>
    text.replace(mention, (found) =>
      found
        .split(' ')
        .map((word) => names.get(word) ?? word)
        .join(' '),
    )
  return {
    path: page.path,
    title: rename(page.title),
    description: rename(page.description),
    items: page.items.map(({ what, cmd }) => ({ what: rename(what), cmd: rename(cmd) })),
  }
}

/** Two to twelve characters: syllables or random letters, sometimes in two parts, sometimes with a digit. */
function inventedName(random: () => number): string {
  const pick = (from: string) => from.charAt(Math.floor(random() * from.length))
  const times = (least: number, most: number, make: () => string) =>
    Array.from({ length: least + Math.floor(random() * (most - least + 1)) }, make).join('')
  const syllables = () =>
    times(1, 3, () => pick(CONSONANTS) + pick(VOWELS) + (random() < 0.5 ? pick(CONSONANTS) : ''))
  const letters = () => times(2, 5, () => pick(CONSONANTS + VOWELS))
  const part = () => (random() < 0.7 ? syllables() : letters())
  const name = random() < 0.25 ? part() + (shuffled(SEPARATORS, random)[0] ?? '') + part() : part()
  return random() < 0.1 ? name + pick('23456789') : name
}

function escaped(word: string): string {
  return word.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
}
