import type { Piece } from '../../../shared/branch-tree.ts'

/** A part of the Markdown source that comes from one branch. `to` is exclusive. */
export interface SourceRange {
  readonly branch: number
  readonly from: number
  readonly to: number
  /** The branch still grows at the end of this range. */
  readonly growing: boolean
}

export interface Source {
  readonly markdown: string
  readonly ranges: readonly SourceRange[]
}

/**
 * The Markdown of an answer whose branches grow in several places. A branch that is in the middle of a code block would
 * make code of all text behind it: its block is closed for now.
 */
export function sourceOf(pieces: readonly Piece[], isGrowing: (branch: number) => boolean): Source {
  const lastOf = new Map(pieces.map(({ branch }, index) => [branch, index]))
  const ranges: SourceRange[] = []
  let markdown = ''
  pieces.forEach(({ branch, text }, index) => {
    const growing = lastOf.get(branch) === index && isGrowing(branch)
    const from = markdown.length
    markdown += text
    ranges.push({ branch, from, to: markdown.length, growing })
    if (growing && index < pieces.length - 1) markdown += endOfOpenCode(text)
  })
  return { markdown, ranges }
}

/** The lines that end a code block which `text` has begun; '' when there is none. */
function endOfOpenCode(text: string): string {
  let open: string | undefined
  for (const line of text.split('\n')) {
    const fence = /^\s*(`{3,}|~{3,})/.exec(line)?.[1]
    if (!fence) continue
    if (open === undefined) open = fence
    else if (fence.startsWith(open)) open = undefined
  }
  return open === undefined ? '' : `\n${open}\n\n`
}
