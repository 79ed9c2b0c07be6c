import type { Conversation } from './conversation.ts'
import { documentOrder, type Part, type Structure } from './extract/structure.ts'

export const FORK = '[Fork]'
export const CHILD = '[Child]'

/**
 * One training sequence: `input` is the prompt, `target` the answer. In a branch row only the text after the last
 * [Child] is in the loss.
 */
export interface Row {
  index: string
  input: string
  target: string
}

export interface UnstructuredRow {
  id: string
  conversations: { from: 'human' | 'gpt'; value: string }[]
}

/** How [Fork] and [Child] are spelled in rows. */
export interface Markers {
  fork: string
  child: string
}

const MARKERS: Markers = { fork: FORK, child: CHILD }

/**
 * The rows of a structured answer, one at a time: `<id>_main` is the main text with forks; `<id>_<k>` is the path of
 * the k-th branch in document order: all text of its ancestors through its [Fork], then [Child], then its own text
 * with its forks. Together they grow with the square of the answer: ask `rowCharacters` first.
 */
export function* structuredRows(
  conversation: Conversation,
  structure: Structure,
  markers: Markers = MARKERS,
): Generator<Row> {
  const input = conversation.dialogs[0]?.prompt ?? ''
  yield { index: `${conversation.id}_main`, input, target: ownText(structure.parts, markers) }
  let branch = 0
  for (const target of branchTargets(structure.parts, '', markers)) {
    yield { index: `${conversation.id}_${branch++}`, input, target }
  }
}

function ownText(parts: readonly Part[], { fork }: Markers): string {
  return parts.map(({ text, detail }) => (detail ? text + fork : text)).join('')
}

function* branchTargets(parts: readonly Part[], path: string, markers: Markers): Generator<string> {
  let through = path
  for (const { text, detail } of parts) {
    through += text
    if (!detail) continue
    through += markers.fork
    const start = through + markers.child
    yield start + ownText(detail, markers)
    yield* branchTargets(detail, start, markers)
  }
}

/** The characters of all targets of `structuredRows`, counted without building a row; linear in the answer. */
export function rowCharacters(structure: Structure, markers: Markers = MARKERS): number {
  return ownLength(structure.parts, markers) + branchCharacters(structure.parts, 0, markers)
}

function ownLength(parts: readonly Part[], { fork }: Markers): number {
  let length = 0
  for (const { text, detail } of parts) length += text.length + (detail ? fork.length : 0)
  return length
}

function branchCharacters(parts: readonly Part[], path: number, markers: Markers): number {
  let through = path
  let total = 0
  for (const { text, detail } of parts) {
    through += text.length
    if (!detail) continue
    through += markers.fork.length
    const start = through + markers.child.length
    total += start + ownLength(detail, markers) + branchCharacters(detail, start, markers)
  }
  return total
}

/** The same answer in serial form. */
export function flatRow(conversation: Conversation, structure: Structure): Row {
  return {
    index: conversation.id,
    input: conversation.dialogs[0]?.prompt ?? '',
    target: documentOrder(structure.parts),
  }
}

export function unstructuredRow(conversation: Conversation): UnstructuredRow {
  return {
    id: conversation.id,
    conversations: conversation.dialogs.flatMap((turn) => [
      { from: 'human' as const, value: turn.prompt },
      { from: 'gpt' as const, value: turn.response },
    ]),
  }
}
