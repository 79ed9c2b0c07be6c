import type { Conversation } from './conversation.ts'
import { documentOrder, type Structure } from './extract/structure.ts'

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

/**
 * The rows of a structured answer: `<id>_main` is the main text with forks; `<id>_<k>` is the main text up to and
 * including its (k+1)-th [Fork], then [Child], then that fork's detail.
 */
export function structuredRows(conversation: Conversation, structure: Structure): Row[] {
  const input = conversation.dialogs[0]?.prompt ?? ''
  const branches: Row[] = []
  let main = ''
  for (const part of structure.parts) {
    main += part.text
    if (part.detail === undefined) continue
    main += FORK
    branches.push({
      index: `${conversation.id}_${branches.length}`,
      input,
      target: `${main}${CHILD}${part.detail}`,
    })
  }
  return [{ index: `${conversation.id}_main`, input, target: main }, ...branches]
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
