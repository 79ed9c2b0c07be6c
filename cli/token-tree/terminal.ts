import { documentOrder, placesOf, type TokenTree } from '../../shared/token-tree.ts'
import { DIM, type Paint, painter, TokenLines } from './token-lines.ts'
import { flat } from './visible.ts'

export interface TerminalOptions {
  /** Lines are wrapped at this width; undefined: not at all. */
  columns?: number | undefined
  colours: boolean
  /** Show each token as a piece with its id. */
  tokens?: boolean
}

const BOLD = 1
/** Of branches; the root has none. */
const COLOURS = [36, 33, 35, 32, 34, 31] as const

/** A tree in document order, children indented below the fork that begins them. */
export function terminalTree(tree: TokenTree, options: TerminalOptions): string {
  const { segments, words } = tree
  const places = placesOf(segments)
  const paint = painter(options.colours)
  const sizes = new Map<number, number>()
  for (const { branch, tokens } of segments) sizes.set(branch, (sizes.get(branch) ?? 0) + tokens.length)

  const lines = headLines(tree, paint)
  /** What the lines of a branch begin with: the gutters of the branches around it. */
  const outer = new Map<number, string>()
  for (const index of documentOrder(places)) {
    const segment = segments[index]
    const place = places[index]
    if (!segment || !place) continue
    const { branch, parent } = segment
    const parentBranch = parent === undefined ? undefined : segments[parent]?.branch
    if (branch !== parentBranch) {
      const around =
        parentBranch === undefined ? '' : `${outer.get(parentBranch)}${paint('│ ', colourOf(parentBranch))}`
      outer.set(branch, around)
      const count = sizes.get(branch) === 1 ? '1 token' : `${sizes.get(branch)} tokens`
      const about = paint(` · depth ${place.depth} · ${count}`, DIM)
      lines.push(`${around}${paint(`╭ branch ${branch}`, colourOf(branch))}${about}`)
    }
    const room = options.columns === undefined ? undefined : options.columns - 2 * (place.depth - 1)
    const gutter = { outer: outer.get(branch) ?? '', colour: colourOf(branch) }
    const flow = new TokenLines(gutter, room, options.tokens === true, paint)
    for (const token of segment.tokens) flow.add(token)
    for (const fork of place.forks) {
      const begun = segments[fork]?.branch ?? 0
      flow.mark(`→${begun}`, colourOf(begun))
    }
    lines.push(...flow.end())
  }
  const legend = `│ ${words.written}   ┊ ${words.given}   →n: branch n begins here`
  return `${[...lines, '', paint(legend, DIM)].join('\n')}\n`
}

function headLines({ title, facts }: TokenTree, paint: Paint): string[] {
  const width = facts.reduce((most, [name]) => Math.max(most, flat(name).length), 0) + 2
  const shown = facts.map(([name, value]) => `${paint(flat(name).padEnd(width), DIM)}${flat(value)}`)
  return [paint(flat(title), BOLD), ...shown, '']
}

function colourOf(branch: number): number | undefined {
  return branch === 0 ? undefined : COLOURS[(branch - 1) % COLOURS.length]
}
