import { badLine, type Conversation, isRecord } from '../conversation.ts'
import { refusedBy } from '../extract/extract.ts'
import { readJsonValues } from '../input/json-values.ts'
import { hashText, seededRandom, shuffled } from '../random.ts'
import { underInventedName } from './invented-names.ts'
import { lowerFirst, type ReadPage, readPage, type TldrPage } from './tldr-answers.ts'
import { popularity } from './tldr-popularity.ts'

export interface TldrOptions {
  /** Number of pages, the best known first; default 1000. */
  pages?: number
  /** Number of the best known pages to leave out; default 0. */
  skip?: number
  /** Folders of tldr-pages; default common and linux. */
  platforms?: readonly string[]
  /** Number of additional copies of every page with an invented command name; default 0. */
  inventedNames?: number
}

const MIN_USES = 3
const MAX_PAGES_OF_A_FAMILY = 16
const ASK_FOR_USES = [
  (name: string) => `How to use ${name}?`,
  (name: string) => `how do I use ${name}`,
  (name: string) => `How do I use the ${name} command?`,
  (name: string) => `Show me how to use ${name}.`,
  (name: string) => `Give me examples of ${name}.`,
  (name: string) => `What can I do with ${name}?`,
  (name: string) => `Explain the ${name} command.`,
  (name: string) => `How does ${name} work?`,
]
const OTHER_PHRASINGS = 1
const PARAGRAPHS_SHARE = 0.3
const PLAIN_NAME = /^[a-z0-9][\w+-]*( [\w+-]+)?$/i

/**
 * Converts command-line help pages (tldr-pages, CC-BY-4.0) to questions and answers. `file` has one page per
 * line: `{path, title, description, items: [{what, cmd}]}`. Every page gives numbered lists, some pages an answer
 * in paragraphs, and all of them short answers without structure, so that the model also learns when not to fork.
 */
export async function* tldrConversations(
  file: string,
  options: TldrOptions = {},
): AsyncGenerator<Conversation> {
  const platforms = options.platforms ?? ['common', 'linux']
  const pages: TldrPage[] = []
  for await (const { value, line } of readJsonValues(file)) pages.push(toPage(value, file, line))
  const score = popularity(pages)
  const skip = options.skip ?? 0
  const seen = new Set<string>()
  const families = new Map<string, number>()
  const chosen = pages
    .filter((page) => platforms.includes(page.path.split('/').at(-2) ?? ''))
    .map((page) => ({ page, read: readPage(page), score: score(page) }))
    .filter(
      ({ read }) => PLAIN_NAME.test(read.name) && read.uses.length >= MIN_USES && read.summary.length >= 10,
    )
    .filter(({ read }) => !refusedBy(read.description))
    .sort(
      (a, b) =>
        b.score - a.score || b.read.uses.length - a.read.uses.length || (a.page.path < b.page.path ? -1 : 1),
    )
    .filter(({ read }) => !seen.has(read.name) && seen.add(read.name))
    .filter(({ read }) => {
      const family = read.name.split(' ')[0] ?? ''
      families.set(family, (families.get(family) ?? 0) + 1)
      return (families.get(family) ?? 0) <= MAX_PAGES_OF_A_FAMILY
    })
    .slice(skip, skip + (options.pages ?? 1000))
  for (const { page, read } of chosen) {
    const group = page.path.replace(/^pages\//, '').replace(/\.md$/, '')
    yield* conversationsOf(group, group, read, hashText(page.path))
    for (let copy = 1; copy <= (options.inventedNames ?? 0); copy += 1) {
      const id = `${group}/invented-${copy}`
      const invented = readPage(underInventedName(page, seededRandom(hashText(id))))
      yield* conversationsOf(id, group, invented, hashText(`${id}:questions`))
    }
  }
}

/** All copies of a page are in its group, so that they are held out together. */
function* conversationsOf(id: string, group: string, page: ReadPage, seed: number): Generator<Conversation> {
  const random = seededRandom(seed)
  let count = 0
  const ask = (prompt: string, response: string): Conversation => {
    count += 1
    return { id: `tldr/${id}/${count}`, group, dialogs: [{ prompt, response }] }
  }
  const list = listAnswer(page)
  yield ask(`How do I use ${page.name}?`, list)
  for (const phrase of shuffled(ASK_FOR_USES, random).slice(0, OTHER_PHRASINGS))
    yield ask(phrase(page.name), list)
  if (random() < PARAGRAPHS_SHARE) yield ask(`Tell me about ${page.name}.`, paragraphAnswer(page))
  yield ask(`What is ${page.name}?`, `${page.name} is a command. In short: ${lowerFirst(page.description)}`)
  const use = shuffled(page.uses, random)[0]
  if (use) yield ask(`How do I ${lowerFirst(use.purpose)} with ${page.name}?`, use.detail)
}

function listAnswer(page: ReadPage): string {
  const items = page.uses.map((use, index) => `${index + 1}. ${use.title}: ${use.detail}`)
  return `Here is how to use ${page.name}:\n\n${items.join('\n')}`
}

function paragraphAnswer(page: ReadPage): string {
  const uses = page.uses.map((use) => `With ${page.name} you can ${lowerFirst(use.title)}. ${use.detail}`)
  return [`${page.name} is a command: ${page.summary}.`, ...uses].join('\n\n')
}

function toPage(value: unknown, file: string, line: number): TldrPage {
  const fail = (reason: string): never => {
    throw badLine(file, line, reason)
  }
  if (!isRecord(value)) return fail('expected a page {path, title, description, items}')
  const { path, title, description, items } = value
  if (typeof path !== 'string' || typeof title !== 'string' || typeof description !== 'string') {
    return fail('"path", "title" and "description" must be strings')
  }
  if (!Array.isArray(items)) return fail('"items" must be a list of {what, cmd}')
  return {
    path,
    title,
    description,
    items: items.map((item: unknown, index) => {
      if (!isRecord(item) || typeof item.what !== 'string' || typeof item.cmd !== 'string') {
        return fail(`"items.${index}" must be {what, cmd}, both strings`)
      }
      return { what: item.what, cmd: item.cmd }
    }),
  }
}
