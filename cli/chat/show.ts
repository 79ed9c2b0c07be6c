import type { BranchStream } from '../../client/index.ts'
import { OrderedText } from '../../shared/branch-tree.ts'
import type { DoneEvent, StreamEvent } from '../../shared/protocol/events.ts'
import { ReasoningText } from '../../shared/reasoning-text.ts'
import { branchLines, printable } from './branch-lines.ts'
import { LiveBlock, type Terminal } from './screen.ts'
import { dim, thinkingLines, thoughts } from './thoughts.ts'

/** Minimum time between redraws. */
const FRAME_MS = 50

export interface Answer {
  text: string
  /** What the model thought in front of its text; often ''. */
  reasoning: string
  done: DoneEvent | undefined
}

type Stream = AsyncIterable<StreamEvent> & Pick<BranchStream, 'tree'>

export interface Look {
  /** Without what could control a terminal. */
  readonly clean: boolean
  /** What the model thinks is written in front of its answer. */
  readonly showsReasoning: boolean
}

/** Writes an answer in document order, each piece as soon as it is final. */
export async function showOrdered(stream: Stream, out: Terminal, look: Look): Promise<Answer> {
  const ordered = new OrderedText()
  const reasoning = new ReasoningText()
  let done: DoneEvent | undefined
  let part: 'none' | 'thoughts' | 'answer' = 'none'
  const shown = (text: string) => (look.clean ? printable(text) : text)
  for await (const event of stream) {
    const thought = reasoning.push(event)
    if (look.showsReasoning && thought !== '' && part !== 'answer') {
      out.write(dim(out, `${part === 'none' ? 'Thinking:\n' : ''}${shown(thought)}`))
      part = 'thoughts'
    }
    const text = ordered.push(event)
    if (text !== '') {
      out.write(`${part === 'thoughts' ? '\n\n' : ''}${shown(text)}`)
      part = 'answer'
    }
    if (event.type === 'done') done = event
  }
  out.write('\n')
  return { text: ordered.tree.text(), reasoning: reasoning.text(), done }
}

/** Shows the branches while they are generated; at the end, replaces them by the answer in document order. */
export async function showBranches(
  stream: Stream,
  out: Terminal,
  { showsReasoning }: Pick<Look, 'showsReasoning'>,
): Promise<Answer> {
  const block = new LiveBlock(out)
  const reasoning = new ReasoningText()
  const [columns, rows] = [out.columns || 80, (out.rows || 24) - 2]
  let done: DoneEvent | undefined
  let drawnAt = Number.NEGATIVE_INFINITY
  const draw = () => {
    drawnAt = performance.now()
    const thinks = reasoning.text() !== '' && stream.tree.text() === ''
    const lines = thinks ? thinkingLines(showsReasoning ? reasoning.text() : '', columns, rows) : undefined
    block.draw(lines?.map((line) => dim(out, line)) ?? branchLines(stream.tree, columns, rows))
  }
  try {
    for await (const event of stream) {
      reasoning.push(event)
      if (event.type === 'done') done = event
      if (performance.now() - drawnAt >= FRAME_MS) draw()
    }
    draw()
  } finally {
    block.clear()
  }
  const text = stream.tree.text()
  if (showsReasoning && reasoning.text() !== '') out.write(`${dim(out, thoughts(reasoning.text()))}\n\n`)
  out.write(`${printable(text)}\n`)
  return { text, reasoning: reasoning.text(), done }
}

/** Tokens, forks, drafts and time of an answer in one line. */
export function summary({ done }: Pick<Answer, 'done'>, elapsedMs: number): string {
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
