import { extract } from '../../training/data/extract/extract.ts'
import { PROFILES } from '../../training/data/extract/profile.ts'
import type { Answer, AnswerBranch } from './ask.ts'

/** Titles of the items of a list (numbered, bullets, sections under headings); none for any other text. */
export function titlesOf(text: string): string[] {
  const extraction = extract(text, PROFILES.default)
  if (!('structure' in extraction) || extraction.structure.kind === 'paragraphs') return []
  const { parts } = extraction.structure
  return parts.filter(({ detail }) => detail !== undefined).map((part) => toTitle(part.text))
}

/** What the root says before each of its forks. */
export function forkTitlesOf({ branches: [root, ...others] }: Pick<Answer, 'branches'>): string[] {
  const forks = others.filter(({ parent }) => parent === root?.id).map(({ at }) => at)
  return forks
    .sort((a, b) => a - b)
    .map((at, index) => toTitle(root?.text.slice(forks[index - 1] ?? 0, at) ?? ''))
}

/** How many of the titles are there before. */
export function countRepeated(titles: readonly string[]): number {
  return titles.length - new Set(titles).size
}

/** What is wrong with the form of a forking answer; nothing if it is well-formed. */
export function problemsOf({ branches }: Pick<Answer, 'branches'>): string[] {
  const problems = new Set<string>()
  for (const branch of branches) {
    if (branch.reason !== 'stop') problems.add('a branch does not end')
    const parent = branches.find(({ id }) => id === branch.parent)
    if (!parent) continue
    if (branch.text.trim() === '') problems.add('a detail is empty')
    else if (!isJoined(parent, branch)) problems.add('the texts around a fork run into each other')
  }
  return [...problems]
}

/** White space is between the text before a fork and the detail, and the parent goes on with some, or not at all. */
function isJoined({ text: parent }: AnswerBranch, { at, text: detail }: AnswerBranch): boolean {
  const before = /\s$/.test(parent.slice(0, at)) || /^\s/.test(detail)
  const after = at >= parent.length || /^\s/.test(parent.slice(at)) || /\s$/.test(detail)
  return before && after
}

/** The last line, without its number, marks and case. */
function toTitle(text: string): string {
  const line = text.trim().split('\n').at(-1) ?? ''
  const bare = line.replace(/^[\s#>*•+-]*(?:\d+[.)])?/, '').replace(/[*_:：]/g, '')
  return bare.trim().toLowerCase()
}
