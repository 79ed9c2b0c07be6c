import { AparError } from './errors.ts'
import type { FinishReason, ForkEvent, Joints, StreamEvent } from './protocol/types/events.ts'
import { StopMatcher } from './stop-matcher.ts'

/** One branch of an answer, built from the events received so far. */
export interface Branch {
  readonly id: number
  /** null for the root. */
  readonly parent: number | null
  /** UTF-16 code units of the parent's own text before the fork. */
  readonly at: number
  /** 1 for the root. */
  readonly depth: number
  /** Forked while its parent was reasoning: it has reasoning only, and no text. */
  readonly reasons: boolean
  /** The branch's own text, without its children's. */
  readonly text: string
  /** Set once the branch has ended. */
  readonly reason: FinishReason | undefined
  /** In document order. */
  readonly children: readonly number[]
}

interface MutableBranch extends Branch {
  text: string
  reason: FinishReason | undefined
  children: number[]
}

/**
 * The branches of one stream. Apply the stream's events in order.
 * @throws AparError `internal_error` from {@link apply} when an event names a branch that does not exist.
 */
export class BranchTree {
  readonly #branches = new Map<number, MutableBranch>([
    [0, newBranch({ id: 0, parent: null, at: 0, depth: 1, reasons: false })],
  ])
  #joints: Joints
  /** How much of the text in document order the answer has; undefined: all. */
  #length: number | undefined

  constructor(joints: Joints = 'kept') {
    this.#joints = joints
  }

  /** The `accepted` event overrides the constructor's value. */
  get joints(): Joints {
    return this.#joints
  }

  apply(event: StreamEvent): void {
    switch (event.type) {
      case 'accepted':
        this.#joints = event.joints
        break
      case 'fork':
        this.#fork(event)
        break
      case 'delta':
        this.#get(event.branch).text += event.text
        break
      case 'branch_end':
        this.#get(event.branch).reason = event.reason
        break
      case 'done':
        this.#endAll(event.reason)
        this.#length = event.text_length
        break
      case 'error':
        this.#endAll('error')
        break
    }
  }

  branch(id: number): Branch | undefined {
    return this.#branches.get(id)
  }

  /** In order of creation, the root first. */
  branches(): readonly Branch[] {
    return [...this.#branches.values()]
  }

  /** All text received so far in document order; branches that have not ended are included as they are. */
  text(): string {
    return joined(this.pieces())
  }

  /** The text received so far as {@link text} has it, in pieces with their branches. */
  pieces(): Piece[] {
    const out: Piece[] = []
    let room = this.#length ?? Number.POSITIVE_INFINITY
    for (const piece of new DocumentCursor(this).advance(false)) {
      if (room <= 0) break
      out.push(piece.text.length <= room ? piece : cutPiece(piece, room))
      room -= piece.text.length
    }
    return out
  }

  #get(id: number): MutableBranch {
    const branch = this.#branches.get(id)
    if (!branch) throw new AparError('internal_error', `event for unknown branch ${id}`)
    return branch
  }

  #fork({ branch: id, parent: parentId, at, reasoning_at }: ForkEvent): void {
    const parent = this.#get(parentId)
    if (this.#branches.has(id)) throw new AparError('internal_error', `branch ${id} forked twice`)
    const place = { id, parent: parentId, at, depth: parent.depth + 1, reasons: reasoning_at !== undefined }
    this.#branches.set(id, newBranch(place))
    const after = parent.children.findIndex((child) => this.#get(child).at > at)
    parent.children.splice(after === -1 ? parent.children.length : after, 0, id)
  }

  #endAll(reason: FinishReason): void {
    for (const branch of this.#branches.values()) branch.reason ??= reason
  }
}

/** A piece of text in document order, with the branch it comes from and its range in that branch's own text. */
export interface Piece {
  readonly branch: number
  /** Range in UTF-16 code units of the branch's own text; `text` differs from it only where a joint was mended. */
  readonly from: number
  readonly to: number
  readonly text: string
}

/** The place at which a stop string ended a text in document order. */
export interface TextEnd {
  readonly stop: string
  /** The branch in whose text the stop string is complete, and where in that branch's own text. */
  readonly branch: number
  readonly at: number
}

/**
 * Turns a stream's events into text in document order. A piece is emitted once no more text can come before it:
 * text of a later branch waits until all earlier text is complete. All pieces joined equal the finished tree's
 * `text()`, but end before the first of the `stop` strings, whatever branches and joints it lies across; what could be
 * its beginning is held back.
 */
export class OrderedText {
  readonly tree: BranchTree
  /** Set once a stop string has ended the text; no more pieces follow. */
  end: TextEnd | undefined
  /** UTF-16 code units emitted so far. */
  length = 0
  readonly #cursor: DocumentCursor
  readonly #stops: StopMatcher
  #held: Piece[] = []

  /** `tree`: one to which somebody else applies the events; then call {@link read} instead of `push`. */
  constructor(joints: Joints = 'kept', stop: readonly string[] = [], tree = new BranchTree(joints)) {
    this.tree = tree
    this.#cursor = new DocumentCursor(this.tree)
    this.#stops = new StopMatcher(stop)
  }

  /** The text that became final with this event; often ''. */
  push(event: StreamEvent): string {
    return joined(this.pushPieces(event))
  }

  /** Like {@link push}, but returns each piece with its source. */
  pushPieces(event: StreamEvent): Piece[] {
    this.tree.apply(event)
    return this.read(event.type === 'done' || event.type === 'error')
  }

  /** The pieces that have become final since the last call. `over`: nothing more comes, so nothing is held back. */
  read(over: boolean): Piece[] {
    if (this.end) return []
    const out: Piece[] = []
    for (const piece of this.#cursor.advance(true)) {
      const { text, stop, rest = 0 } = this.#stops.push(piece.text)
      this.#held.push(piece)
      out.push(...this.#release(text.length))
      if (stop === undefined) continue
      // A stop string may be complete in the white space of a joint, which comes with the piece's first character.
      this.end = { stop, branch: piece.branch, at: Math.max(piece.from + 1, piece.to - rest) }
      return out
    }
    return over ? [...out, ...this.#release(this.#stops.release().length)] : out
  }

  /** Takes the first `length` code units of the pieces that are held back. */
  #release(length: number): Piece[] {
    this.length += length
    const out: Piece[] = []
    for (let left = length; left > 0; ) {
      const [piece] = this.#held
      if (!piece) break
      this.#held.shift()
      const text = piece.text.slice(0, left)
      left -= text.length
      if (text.length === piece.text.length) {
        out.push(piece)
        continue
      }
      const first = cutPiece(piece, text.length)
      out.push(first)
      this.#held.unshift({ ...piece, from: first.to, text: piece.text.slice(text.length) })
    }
    return out
  }
}

/** Which white space rule applies between two adjacent texts, once the second one has its first character. */
type Joint = 'none' | 'detail' | 'continuation'

interface Frame {
  readonly branch: Branch
  /** How much of the branch's own text has been read. */
  position: number
  nextChild: number
  joint: Joint
  /** Start of the text since the last fork. */
  segmentStart: number
}

/** Reads a tree depth first: own text up to a fork, then the child, then the parent's continuation. */
class DocumentCursor {
  readonly #tree: BranchTree
  readonly #stack: Frame[]
  /** Whether the text before the fork of the current detail contains a list item. */
  #afterListItem = false

  constructor(tree: BranchTree) {
    this.#tree = tree
    const root = tree.branch(0)
    this.#stack = root ? [newFrame(root, 'none')] : []
  }

  /** Reads to the end of the tree; with `waitForEnds`, only up to the first branch that has not ended. */
  advance(waitForEnds: boolean): Piece[] {
    const out: Piece[] = []
    for (;;) {
      const frame = this.#stack.at(-1)
      if (!frame) return out
      const { branch } = frame
      const child = this.#childAt(frame)
      const end = child ? Math.min(child.at, branch.text.length) : branch.text.length
      if (frame.position < end) {
        const text = this.#mend(frame, branch.text.slice(frame.position, end))
        out.push({ branch: branch.id, from: frame.position, to: end, text })
        frame.position = end
      }
      if (child && frame.position >= child.at) {
        const segment = branch.text.slice(frame.segmentStart, frame.position)
        this.#afterListItem = LIST_ITEM.test(segment)
        frame.nextChild++
        frame.segmentStart = frame.position
        // Where a branch has reasoning only, no text was forked.
        if (!child.reasons) frame.joint = 'continuation'
        this.#stack.push(newFrame(child, 'detail'))
      } else if (branch.reason === undefined && waitForEnds) {
        return out
      } else {
        this.#stack.pop()
      }
    }
  }

  #childAt(frame: Frame): Branch | undefined {
    const id = frame.branch.children[frame.nextChild]
    return id === undefined ? undefined : this.#tree.branch(id)
  }

  /** Restores the white space around the added tokens, which training data of `mended` checkpoints had lost. */
  #mend(frame: Frame, text: string): string {
    if (this.#tree.joints === 'kept' || frame.joint === 'none') return text
    if (frame.joint === 'detail') {
      frame.joint = 'none'
      return this.#afterListItem && !text.startsWith('\n') ? `\n${text}` : text
    }
    const continuation = text.replace(/^\n+/, '')
    if (continuation === '') return ''
    frame.joint = 'none'
    return `\n\n${continuation}`
  }
}

/** The first `length` code units of a piece, fewer than it has. */
function cutPiece(piece: Piece, length: number): Piece {
  const text = piece.text.slice(0, length)
  return { ...piece, to: Math.max(piece.from, piece.to - (piece.text.length - length)), text }
}

export function joined(pieces: readonly Piece[]): string {
  return pieces.map(({ text }) => text).join('')
}

const LIST_ITEM = /\d+\. /

function newBranch(place: Pick<Branch, 'id' | 'parent' | 'at' | 'depth' | 'reasons'>): MutableBranch {
  return { ...place, text: '', reason: undefined, children: [] }
}

function newFrame(branch: Branch, joint: Joint): Frame {
  return { branch, position: 0, nextChild: 0, joint, segmentStart: 0 }
}
