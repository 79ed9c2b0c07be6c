import type { TldrPage } from './tldr-answers.ts'

const SUBCOMMAND_WEIGHT = 0.1

/**
 * Scores how well known a command is: the number of other pages that mention it, in a command or in backticks in
 * a description (a subcommand's page does not count for its own command). The score of a subcommand (`git
 * commit`) is the number of its own mentions plus a tenth of its command's.
 */
export function popularity(pages: readonly TldrPage[]): (page: TldrPage) => number {
  const titles = new Set(pages.map((page) => page.title))
  const mentions = new Map<string, number>()
  for (const page of pages) {
    const [family = ''] = page.title.split(' ')
    for (const name of namesOn(page, titles)) {
      if (name !== page.title && name !== family) mentions.set(name, (mentions.get(name) ?? 0) + 1)
    }
  }
  return (page) => {
    const own = mentions.get(page.title) ?? 0
    const [family = ''] = page.title.split(' ')
    return family === page.title ? own : own + SUBCOMMAND_WEIGHT * (mentions.get(family) ?? 0)
  }
}

/** Command names on a page: the first one or two words of each command in a pipeline, and names in backticks. */
function namesOn(page: TldrPage, titles: ReadonlySet<string>): Set<string> {
  const names = new Set<string>()
  const add = (name: string | undefined) => {
    if (name && titles.has(name)) names.add(name)
  }
  for (const { cmd } of page.items) {
    for (const command of cmd.split(/\||&&|;|\$\(/)) {
      const words = command
        .trim()
        .replace(/^(sudo|time|xargs) /, '')
        .split(/\s+/)
      add(words[0])
      add(words.slice(0, 2).join(' '))
    }
  }
  for (const match of page.description.matchAll(/`([^`]+)`/g)) add(match[1])
  return names
}
