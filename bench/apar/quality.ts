import { extract } from '../../training/data/extract/extract.ts'
import { customProfile } from '../../training/data/extract/profile.ts'
import { titleOf } from '../../training/data/extract/repeats.ts'
import type { Answer, AnswerBranch } from './ask.ts'

/** Answers that repeat themselves are counted, too. */
const RULES = customProfile({ repeats: 'allow' })

/** Titles of the items of a list (numbered, bullets, sections under headings); none for any other text. */
export function titlesOf(text: string): string[] {
  const extraction = extract(text, RULES)
  if (!('structure' in extraction) || extraction.structure.kind === 'paragraphs') return []
  const { parts } = extraction.structure
  return parts.filter(({ detail }) => detail !== undefined).map((part) => titleOf(part.text))
}

/** What the root says before each of its forks. */
export function forkTitlesOf({ branches: [root, ...others] }: Pick<Answer, 'branches'>): string[] {
  const forks = others.filter(({ parent }) => parent === root?.id).map(({ at }) => at)
  return forks
    .sort((a, b) => a - b)
    .map((at, index) => titleOf(root?.text.slice(forks[index - 1] ?? 0, at) ?? ''))
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
