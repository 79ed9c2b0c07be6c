import type { BranchStream } from '../../client/index.ts'
import { OrderedText } from '../../shared/branch-tree.ts'
import type { DoneEvent } from '../../shared/protocol/events.ts'
import { branchLines, printable } from './branch-lines.ts'
import { LiveBlock, type Terminal } from './screen.ts'

/** Minimum time between redraws. */
const FRAME_MS = 50

export interface Answer {
  text: string
  done: DoneEvent | undefined
}

/** Writes an answer in document order, each piece as soon as it is final. */
export async function showOrdered(stream: BranchStream, out: Terminal, clean: boolean): Promise<Answer> {
  const ordered = new OrderedText()
  let done: DoneEvent | undefined
  for await (const event of stream) {
    const text = ordered.push(event)
    if (text !== '') out.write(clean ? printable(text) : text)
    if (event.type === 'done') done = event
  }
  out.write('\n')
  return { text: ordered.tree.text(), done }
}

/** Shows the branches while they are generated; at the end, replaces them by the answer in document order. */
export async function showBranches(stream: BranchStream, out: Terminal): Promise<Answer> {
  const block = new LiveBlock(out)
  let done: DoneEvent | undefined
  let drawnAt = Number.NEGATIVE_INFINITY
  const draw = () => {
    drawnAt = performance.now()
    block.draw(branchLines(stream.tree, out.columns || 80, (out.rows || 24) - 2))
  }
  try {
    for await (const event of stream) {
      if (event.type === 'done') done = event
      if (performance.now() - drawnAt >= FRAME_MS) draw()
    }
    draw()
  } finally {
    block.clear()
  }
  const text = stream.tree.text()
  out.write(`${printable(text)}\n`)
  return { text, done }
}

/** Tokens, forks, drafts and time of an answer in one line. */
export function summary({ done }: Answer, elapsedMs: number): string {
  if (!done) return ''
  const { completion_tokens: tokens, branches, apar } = done.usage
  const end = done.reason === 'stop' ? '' : `, ended by ${done.reason}`
  const forks = branches.length - 1
  const forked = forks === 0 ? 'no fork' : forks === 1 ? '1 fork' : `${forks} forks`
  const { drafted = 0, accepted = 0 } = apar?.speculation ?? {}
  const share = Math.round((100 * accepted) / drafted)
  const drafts = drafted === 0 ? '' : `, drafted ${drafted}, accepted ${accepted} (${share} %)`
  return `${tokens} tokens, ${forked}${drafts}, ${Math.round(elapsedMs)} ms${end}`
}
