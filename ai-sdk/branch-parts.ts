import { BranchTree, type FinishReason } from '../client/index.ts'
import { type BranchEvent, readChunk } from './chunk.ts'

/** Once a piece has this many characters, the branch's next text begins another one. */
const PIECE = 256

/** A part of one branch's own text. The texts of a branch's pieces, in their order, are the branch's. */
export interface BranchPiece {
  /** Names the answer: a message of several steps has several. */
  answer: string
  branch: number
  /** null for the root. */
  parent: number | null
  /** UTF-16 code units of the parent's own text before the fork. */
  at: number
  text: string
  /** Why the branch has ended: in its last piece. */
  reason?: FinishReason
}

/** For the type of your messages: `UIMessage<unknown, AparDataParts>`. */
export type AparDataParts = { branch: BranchPiece }

export interface BranchPiecePart {
  type: 'data-branch'
  /** A later part of the same id replaces it: the piece has grown. */
  id: string
  data: BranchPiece
}

/**
 * The branches of an answer as data parts of a message, while they grow: `data-branch`. An answer that does not fork has
 * none.
 * @param stream `fullStream` of `streamText`, called with `includeRawChunks: true`.
 */
export function branchParts(
  stream: ReadableStream<{ readonly type: string; readonly rawValue?: unknown }>,
): ReadableStream<BranchPiecePart> {
  let pieces: Pieces | undefined
  return stream.pipeThrough(
    new TransformStream({
      transform(part, controller) {
        const { answer, event } = (part.type === 'raw' && readChunk(part.rawValue)) || {}
        if (answer === undefined || event === undefined) return
        if (event.type === 'accepted') pieces = new Pieces(answer)
        else for (const grown of pieces?.push(event) ?? []) controller.enqueue(grown)
      },
    }),
  )
}

/** The pieces of one answer: each new text costs its own length and at most that of a piece, however long the branch is. */
class Pieces {
  readonly #answer: string
  readonly #tree = new BranchTree()
  /** The last piece of each branch: its number, and its range in the branch's text. */
  readonly #last = new Map<number, { number: number; from: number; to: number }>()

  constructor(answer: string) {
    this.#answer = answer
  }

  /** The pieces that are new or have grown. */
  push(event: Exclude<BranchEvent, { type: 'accepted' }>): BranchPiecePart[] {
    this.#tree.apply(event)
    const forked = this.#tree.branches().length > 1
    if (!forked) return []
    const root = event.type === 'fork' && !this.#last.has(0) ? [this.#part(0)] : []
    return [...root, this.#part(event.branch)]
  }

  #part(id: number): BranchPiecePart {
    const branch = this.#tree.branch(id)
    if (!branch) throw new Error(`no branch ${id}`)
    const { parent, at, text, reason } = branch
    const last = this.#last.get(id) ?? { number: 0, from: 0, to: 0 }
    if (last.to - last.from >= PIECE) {
      last.number++
      last.from = last.to
    }
    last.to = text.length
    this.#last.set(id, last)
    const data = { answer: this.#answer, branch: id, parent, at, text: text.slice(last.from) }
    return {
      type: 'data-branch',
      id: `${this.#answer}-${id}-${last.number}`,
      data: { ...data, ...(reason && { reason }) },
    }
  }
}
