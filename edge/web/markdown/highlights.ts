/**
 * The colours of branches in rendered text, as CSS highlights: they leave the document as it is, so that Markdown,
 * selection and screen readers know nothing of branches. A browser without them shows the text without colours.
 */
export const HUES = 6
const supported = typeof Highlight === 'function' && 'highlights' in CSS

function registered(name: string, priority: number): Highlight | undefined {
  if (!supported) return undefined
  const highlight = new Highlight()
  highlight.priority = priority
  CSS.highlights.set(name, highlight)
  return highlight
}

const byHue = Array.from({ length: HUES }, (_, hue) => registered(`branch-${hue}`, 0))
const pointed = registered('pointed', 1)
const tips = registered('growing', 2)

/** The hue of a branch; undefined for the root, whose text has the page's own colour. */
export function hueOf(branch: number): number | undefined {
  return branch === 0 ? undefined : (branch - 1) % HUES
}

/** The highlighted ranges of one answer. */
export class Highlights {
  #ranges: [Highlight, Range][] = []
  #pointed: Range[] = []

  static readonly supported = supported

  show(colours: Iterable<readonly [hue: number, range: Range]>, growing: Iterable<Range>): void {
    this.clear()
    for (const [hue, range] of colours) this.#add(byHue[hue], range)
    for (const range of growing) this.#add(tips, range)
  }

  /** Marks one branch: the pointer is on its bar. */
  point(ranges: readonly Range[]): void {
    for (const range of this.#pointed) pointed?.delete(range)
    this.#pointed = [...ranges]
    for (const range of ranges) pointed?.add(range)
  }

  clear(): void {
    for (const [highlight, range] of this.#ranges) highlight.delete(range)
    this.#ranges = []
    this.point([])
  }

  #add(highlight: Highlight | undefined, range: Range): void {
    if (!highlight) return
    highlight.add(range)
    this.#ranges.push([highlight, range])
  }
}
