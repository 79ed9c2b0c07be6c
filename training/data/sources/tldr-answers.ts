import { refusedBy } from '../extract/filters.ts'
import { PROFILES } from '../extract/profile.ts'
import { type Command, readCommand, readDescription, readTitle, type Title } from './tldr-markup.ts'

export interface TldrPage {
  path: string
  title: string
  description: string
  items: { what: string; cmd: string }[]
}

/** One use of a command: a short title, and a detail that does not depend on the other uses. */
export interface Use {
  title: string
  /** The full description of the use. */
  purpose: string
  detail: string
}

export interface ReadPage {
  name: string
  /** One sentence without its full stop, starting in lower case where English allows it. */
  summary: string
  description: string
  uses: Use[]
}

const MAX_USES = 8
const MAX_PLACEHOLDERS = 3
/** Matches a title that was cut after a word that needs another one, or inside a code span. */
const UNFINISHED =
  / (a|an|the|all|any|one|each|only|specific|given|is|are|was|made|read|written|\w+ed)$|^[^`]*`[^`]*$/

/** Converts a page to uses of a command; leaves out items that the extraction rules would refuse. */
export function readPage(page: TldrPage): ReadPage {
  const description = readDescription(page.description).replace(/\.?$/, '.')
  const sentence = (/^.*?\.(?= |$)/.exec(description)?.[0] ?? description).replace(/ ?\([^()]*\)/g, '')
  const uses: Use[] = []
  for (const { what, cmd } of page.items) {
    const purpose = readTitle(what)
    const command = readCommand(cmd)
    if (!command || uses.length === MAX_USES) continue
    const taken = uses.map((use) => use.title)
    // A text like "SSH tunneling: Forward a port" cannot follow "To" in "To …, run".
    const title = what.includes(': ') ? purpose.text : shortTitle(purpose.text, taken)
    const use = { title, purpose: purpose.text, detail: detailOf(title, purpose, command) }
    const fits = !/[:[\]]/.test(use.purpose) && title.length >= 4 && use.detail.length >= 10
    if (
      fits &&
      !refusedBy(use.title + use.detail, PROFILES.reference) &&
      !uses.some((other) => other.purpose === use.purpose)
    ) {
      uses.push(use)
    }
  }
  return { name: page.title, summary: lowerFirst(sentence.slice(0, -1)), description, uses }
}

/**
 * "Create an archive and write it to a file" → "Create an archive", unless that title is taken. The main branch
 * contains only the titles: the shorter they are, the more of the answer is generated in parallel.
 */
function shortTitle(purpose: string, taken: readonly string[]): string {
  for (const cut of purpose.matchAll(
    /,? (?:and|or|to|from|into|with|without|in|on|using|for|by|that|which|as|at|of|if|when|via) |, /g,
  )) {
    const title = purpose.slice(0, cut.index)
    const words = title.split(' ').length
    if (words >= 3 && !UNFINISHED.test(title) && !taken.includes(title)) return title
  }
  return purpose
}

/** "To create an archive and write it to a file, run `tar cf …`. Here c stands for create. Put your own values …" */
function detailOf(title: string, purpose: Title, command: Command): string {
  const remarks = purpose.remarks.map((remark) => ` (${lowerFirst(remark)})`).join('')
  const run = title === purpose.text ? 'Run' : `To ${lowerFirst(purpose.text)}, run`
  const sentences = [`${run} \`${command.text}\`${remarks}.`]
  const letters = purpose.letters.filter(({ letter }) => command.text.includes(letter))
  if (letters.length > 0) {
    sentences.push(`Here ${joined(letters.map(({ letter, word }) => `${letter} stands for ${word}`))}.`)
  }
  if (command.shortcuts.length > 0) {
    const shortcuts = command.shortcuts.map(({ long, short }) => `${short} is short for ${long}`)
    sentences.push(`${letters.length > 0 ? 'Also' : 'Here'} ${joined(shortcuts)}.`)
  }
  for (const { chosen, others } of command.choices) {
    if (others.length > 0)
      sentences.push(`Instead of ${chosen} you can write ${joined(others.slice(0, 4), 'or')}.`)
  }
  if (command.placeholders.length > 0) {
    const names = joined(command.placeholders.slice(0, MAX_PLACEHOLDERS))
    sentences.push(`Put your own value${command.placeholders.length > 1 ? 's' : ''} in place of ${names}.`)
  }
  return sentences.join(' ')
}

function joined(words: readonly string[], last = 'and'): string {
  if (words.length < 2) return words.join('')
  return `${words.slice(0, -1).join(', ')} ${last} ${words.at(-1)}`
}

/** "List files" → "list files", but "GNU tar", "MuseScore" and "Matt's Traceroute" stay. */
export function lowerFirst(text: string): string {
  return /^[A-Z][a-z'-]*( [^A-Z]|[.,]|$)/.test(text) ? text.charAt(0).toLowerCase() + text.slice(1) : text
}
