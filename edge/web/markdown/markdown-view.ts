import type { Token } from 'marked'
import { copyText } from '../copy.ts'
import { Highlights, hueOf } from './highlights.ts'
import { blocksOf, renderBlock } from './safe-html.ts'
import type { Source } from './source.ts'
import { TextMap } from './text-map.ts'

interface Block {
  readonly raw: string
  readonly nodes: readonly Node[]
}

/**
 * An answer as Markdown that changes in several places while it grows. Blocks whose source did not change keep their
 * nodes: the reader's selection and place stay.
 */
export class MarkdownView {
  readonly #root: HTMLElement
  readonly #highlights = new Highlights()
  #blocks: Block[] = []
  #links = ''
  #source: Source = { markdown: '', ranges: [] }
  #map: TextMap | undefined
  #pointed: number | undefined

  constructor(root: HTMLElement) {
    this.#root = root
  }

  /** `coloured`: text of branches has their colours. */
  update(source: Source, coloured: boolean): void {
    if (source.markdown !== this.#source.markdown) this.#render(source.markdown)
    this.#source = source
    this.#map = undefined
    this.#colour(coloured)
    this.point(this.#pointed)
  }

  /** Marks the text of a branch; undefined: of none. */
  point(branch: number | undefined): void {
    this.#pointed = branch
    const ranges = branch === undefined ? [] : this.#source.ranges.filter((range) => range.branch === branch)
    this.#highlights.point(
      ranges.length === 0 ? [] : ranges.flatMap((range) => this.#textMap.rangesOf(range)),
    )
  }

  /** The branch whose text is at this place of the window. */
  branchAt(x: number, y: number): number | undefined {
    const caret = document.caretPositionFromPoint?.(x, y)
    if (!caret || !this.#root.contains(caret.offsetNode)) return undefined
    const place = this.#textMap.placeOf(caret.offsetNode, caret.offset)
    if (place === undefined) return undefined
    return this.#source.ranges.find(({ from, to }) => from <= place && place < to)?.branch
  }

  destroy(): void {
    this.#highlights.clear()
  }

  get #textMap(): TextMap {
    this.#map ??= new TextMap(this.#root, this.#source.markdown)
    return this.#map
  }

  #render(markdown: string): void {
    const tokens = blocksOf(markdown)
    const links = JSON.stringify(tokens.links)
    // A definition at the end changes links everywhere.
    if (links !== this.#links) {
      this.#root.replaceChildren()
      this.#blocks = []
    }
    this.#links = links
    const old = this.#blocks
    let same = 0
    while (same < old.length && old[same]?.raw === tokens[same]?.raw) same++
    let sameAtEnd = 0
    while (
      sameAtEnd < Math.min(old.length, tokens.length) - same &&
      old[old.length - 1 - sameAtEnd]?.raw === tokens[tokens.length - 1 - sameAtEnd]?.raw
    )
      sameAtEnd++
    const changed = tokens.slice(same, tokens.length - sameAtEnd).map(made)
    const after = old.slice(old.length - sameAtEnd)
    const gone = old.slice(same, old.length - sameAtEnd)
    for (const { nodes } of gone) for (const node of nodes) node.parentNode?.removeChild(node)
    const next = after.flatMap(({ nodes }) => nodes)[0] ?? null
    for (const { nodes } of changed) for (const node of nodes) this.#root.insertBefore(node, next)
    this.#blocks = [...old.slice(0, same), ...changed, ...after]
  }

  #colour(coloured: boolean): void {
    if (!Highlights.supported) return
    const { ranges } = this.#source
    if (ranges.every(({ branch, growing }) => branch === 0 && !growing)) {
      this.#highlights.clear()
      return
    }
    const colours = ranges.flatMap((range) => {
      const hue = hueOf(range.branch)
      if (hue === undefined || !coloured) return []
      return this.#textMap.rangesOf(range).map((found) => [hue, found] as const)
    })
    const tips = ranges.flatMap(({ to, growing }) =>
      growing ? this.#textMap.rangesOf({ from: to - 1, to }) : [],
    )
    this.#highlights.show(colours, tips)
  }
}

function made(token: Token): Block {
  const fragment = renderBlock(token)
  for (const pre of fragment.querySelectorAll('pre')) pre.prepend(copyButton(pre))
  return { raw: token.raw, nodes: [...fragment.childNodes] }
}

function copyButton(pre: HTMLPreElement): HTMLButtonElement {
  const button = document.createElement('button')
  button.type = 'button'
  button.className = 'copy-code'
  // Shown by CSS, so that it is no text of the answer.
  button.ariaLabel = 'Copy this code'
  // A code block that is wider than the page scrolls; the keyboard scrolls what has the focus.
  pre.tabIndex = 0
  button.addEventListener('click', async () => {
    button.dataset.copied = String(await copyText(pre.textContent ?? ''))
  })
  return button
}
