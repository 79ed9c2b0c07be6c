import { isClosing } from './closing.ts'
import { type Line, trimmedEnd } from './lines.ts'
import { type Item, type List, listAt } from './lists.ts'
import type { Profile } from './profile.ts'
import { firstSentenceEnd } from './sentences.ts'
import type { Part, Rule, Structure } from './structure.ts'

/** Lists and sections inside of one another are looked at down to this level: each level costs one pass. */
const MAX_LEVELS = 8

/** A branch of an answer: it forks at offset `cut`, and its text ends at offset `end`. */
export interface Fork {
  kind: Structure['kind']
  cut: number
  end: number
  inner: Fork[]
}

/** The parts of a text between two offsets: cut at each fork, with nothing left out. */
export function partsOf(text: string, from: number, to: number, forks: readonly Fork[]): Part[] {
  const parts: Part[] = []
  let at = from
  for (const { cut, end, inner } of forks) {
    parts.push({ text: text.slice(at, cut), detail: partsOf(text, cut, end, inner) })
    at = end
  }
  if (at < to || parts.length === 0) parts.push({ text: text.slice(at, to) })
  return parts
}

/** Finds the lists and sections of an answer that fork, and notes why others do not. Time is linear in the answer. */
export class ForkFinder {
  readonly #text: string
  readonly #lines: readonly Line[]
  readonly #profile: Profile
  /** Why lists at the top level do not fork, in document order. */
  readonly refused: Rule[] = []

  constructor(text: string, lines: readonly Line[], profile: Profile) {
    this.#text = text
    this.#lines = lines
    this.#profile = profile
  }

  find(): Fork[] {
    return this.#between(0, this.#lines.length, 1)
  }

  /** The forks of the lines from index `from` to before `to`, in a branch with `depth` branches on its path. */
  #between(from: number, to: number, depth: number, level = 0): Fork[] {
    if (depth >= this.#profile.maxDepth || level > MAX_LEVELS || from >= to) return []
    const starts = this.#profile.headings ? this.#highestHeadings(from, to) : []
    const first = starts[0]
    if (first === undefined) return this.#lists(from, to, depth, level)
    const forks = this.#lists(from, first, depth, level)
    const sections = starts.map((start, index) => {
      const end = starts[index + 1] ?? this.#closingAt(start, to)
      return { start, end, branches: this.#sectionForks(start, end) }
    })
    const areBranches = this.#isMost(sections.filter(({ branches }) => branches).length, sections.length)
    for (const { start, end, branches } of sections) {
      const heading = this.#lines[start]
      if (areBranches && branches && heading) {
        forks.push({
          kind: 'headings',
          cut: heading.end,
          end: this.#textEnd(start, end),
          inner: this.#between(start + 1, end, depth + 1, level + 1),
        })
      } else {
        forks.push(...this.#between(start + 1, end, depth, level + 1))
      }
    }
    return forks
  }

  /** Indexes of the headings of the highest level there is. */
  #highestHeadings(from: number, to: number): number[] {
    let highest = Number.POSITIVE_INFINITY
    let found: number[] = []
    for (let at = from; at < to; at++) {
      const { level = highest + 1 } = this.#lines[at] ?? {}
      if (level < highest) found = []
      if (level > highest || level === Number.POSITIVE_INFINITY) continue
      highest = level
      found.push(at)
    }
    return found
  }

  #sectionForks(start: number, end: number): boolean {
    const heading = this.#lines[start]
    if (!heading || this.#hasCode(start, end)) return false
    return this.#length(heading.end, this.#textEnd(start, end)) >= this.#profile.minDetail
  }

  /** The last paragraph of a range, when it speaks of the answer as a whole; else the end of the range. */
  #closingAt(from: number, to: number): number {
    let last = to
    while (last > from && this.#lines[last - 1]?.kind === 'blank') last -= 1
    while (last > from && this.#lines[last - 1]?.kind === 'text') last -= 1
    const line = this.#lines[last]
    const isParagraph = last > from + 1 && this.#lines[last - 1]?.kind === 'blank'
    return line && isParagraph && !line.code && isClosing(this.#text, line) ? last : to
  }

  /** The offset after a section's text: blank lines and rules at its end stay between the sections. */
  #textEnd(start: number, end: number): number {
    let last = end - 1
    while (last > start && ['blank', 'rule'].includes(this.#lines[last]?.kind ?? '')) last -= 1
    return this.#lines[last]?.end ?? this.#text.length
  }

  #lists(from: number, to: number, depth: number, level: number): Fork[] {
    const forks: Fork[] = []
    for (let at = from; at < to; ) {
      const line = this.#lines[at]
      if (!line?.item) {
        at += 1
        continue
      }
      const list = listAt(this.#text, this.#lines, at, to)
      const enabled = list.numbered ? this.#profile.lists : this.#profile.bullets
      if (enabled) forks.push(...this.#listForks(list, depth, level))
      at = list.to
    }
    return forks
  }

  #listForks(list: List, depth: number, level: number): Fork[] {
    const { items } = list
    const titled = items.filter((item) => item.detail !== undefined)
    const withoutCode = titled.filter(({ from, to }) => !this.#hasCode(from, to))
    const branching = withoutCode.filter((item) => this.#itemForks(item))
    const coded = titled.length - withoutCode.length
    if (!list.consecutive && titled.length >= 2) {
      if (depth === 1) this.refused.push('list_numbering')
      return []
    }
    const { minItems } = this.#profile
    const isMost = (count: number) => this.#isMost(count, items.length)
    if (isMost(branching.length)) return branching.map((item) => this.#itemFork(list, item, depth, level))
    if (titled.length < minItems && this.#profile.sentenceItems) {
      const split = items.map((item) => ({ ...item, detail: this.#firstSentenceEnd(item) }))
      const branches = split.filter(
        ({ detail, from, to }) => detail !== undefined && !this.#hasCode(from, to),
      )
      if (isMost(branches.length)) return branches.map((item) => this.#itemFork(list, item, depth, level))
    }
    if (depth === 1) {
      if (isMost(branching.length + coded)) this.refused.push('code_fence')
      else if (isMost(titled.length)) this.refused.push('list_detail_too_short')
      else if (titled.length >= minItems) this.refused.push('list_mixed')
      else if (titled.length === items.length) this.refused.push('list_too_short')
    }
    // The list stays serial; lists inside of its items may fork all the same.
    return items.flatMap(({ from, to }) => this.#between(from + 1, to, depth, level + 1))
  }

  #itemFork(list: List, { detail = 0, from, to }: Item, depth: number, level: number): Fork {
    return {
      kind: list.numbered ? 'list' : 'bullets',
      cut: detail,
      end: this.#lines[to - 1]?.end ?? detail,
      inner: this.#between(from + 1, to, depth + 1, level + 1),
    }
  }

  /** Where an item without a title divides: behind its first sentence. */
  #firstSentenceEnd({ from, to }: Item): number | undefined {
    const line = this.#lines[from]
    if (!line?.item) return undefined
    const { minPiece } = this.#profile
    if (line.end - line.item.content <= minPiece) return undefined
    const cut = firstSentenceEnd(this.#text, line.item.content, line.end)
    const rest = this.#length(cut, this.#lines[to - 1]?.end ?? cut)
    return cut < line.end && cut - line.item.content >= minPiece && rest >= minPiece ? cut : undefined
  }

  /** Enough, and at least two thirds of all. */
  #isMost(count: number, all: number): boolean {
    return count >= this.#profile.minItems && count * 3 >= all * 2
  }

  #itemForks({ detail = 0, to }: Item): boolean {
    return this.#length(detail, this.#lines[to - 1]?.end ?? detail) >= this.#profile.minDetail
  }

  #hasCode(from: number, to: number): boolean {
    for (let at = from; at < to; at++) if (this.#lines[at]?.code) return true
    return false
  }

  /** Characters between two offsets without white space around them. */
  #length(from: number, to: number): number {
    const end = trimmedEnd(this.#text, from, to)
    return this.#text.slice(from, end).trimStart().length
  }
}
