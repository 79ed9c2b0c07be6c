import type { SourceRange } from './source.ts'

/** How far ahead in the source the next rendered character is looked for: the longest markup between two texts. */
const AHEAD = 400

/** Where a rendered text node lies in the Markdown source: `at[i]` is the place of its character i. */
interface Placed {
  readonly node: Text
  readonly at: Uint32Array
}

/**
 * Finds rendered text in its Markdown source. The text is the source without its markup, so both are read in parallel:
 * a character that is not next in the source stands behind some markup.
 */
export class TextMap {
  readonly #placed: Placed[] = []

  constructor(root: Node, markdown: string) {
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT)
    let next = 0
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      if (!(node instanceof Text)) continue
      const at = new Uint32Array(node.data.length)
      const whole =
        node.data.trim() === ''
          ? -1
          : markdown.slice(next, next + AHEAD + node.data.length).indexOf(node.data)
      if (whole >= 0) {
        for (let i = 0; i < at.length; i++) at[i] = next + whole + i
        next += whole + at.length
      } else {
        for (let i = 0; i < at.length; i++) {
          const found = markdown.slice(next, next + AHEAD).indexOf(node.data.charAt(i))
          if (found >= 0 && !/\s/.test(node.data.charAt(i))) next += found + 1
          at[i] = Math.max(0, next - 1)
        }
      }
      this.#placed.push({ node, at })
    }
  }

  /** The rendered text of a part of the source. */
  rangesOf({ from, to }: Pick<SourceRange, 'from' | 'to'>): Range[] {
    const out: Range[] = []
    for (const { node, at } of this.#placed) {
      const begin = at.findIndex((place) => place >= from)
      const end = at.findLastIndex((place) => place < to) + 1
      if (begin === -1 || begin >= end) continue
      const range = document.createRange()
      range.setStart(node, begin)
      range.setEnd(node, end)
      out.push(range)
    }
    return out
  }

  /** The place in the source of a character of the page; undefined for text that is not of this map. */
  placeOf(node: Node, offset: number): number | undefined {
    const placed = this.#placed.find((each) => each.node === node)
    return placed?.at[Math.min(offset, placed.at.length - 1)]
  }
}
