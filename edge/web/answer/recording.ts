import { BranchTree, type Piece } from '../../../shared/branch-tree.ts'
import type { ErrorCode } from '../../../shared/errors.ts'
import type { FinishReason, StreamEvent, Usage } from '../../../shared/protocol/types/events.ts'
import { ReasoningText } from '../../../shared/reasoning-text.ts'

export type AnswerState = 'running' | 'complete' | 'stopped' | 'failed'

/** An answer as it is stored: plain data. */
export interface Recorded {
  readonly model: string
  readonly parallel: boolean
  /** Unix time in ms. */
  readonly started: number
  readonly state: AnswerState
  readonly elapsed_ms: number
  /** With the time of arrival in ms since `started`. */
  readonly events: readonly TimedEvent[]
  /** The number behind which the stream can be resumed. */
  readonly after: number
  readonly problem?: { readonly code: ErrorCode; readonly message: string } | undefined
}

export type TimedEvent = readonly [ms: number, event: StreamEvent]

/** When a branch lived, in ms since the answer started. */
export interface BranchTimes {
  readonly startMs: number
  endMs: number | undefined
}

export interface Figures {
  readonly firstTextMs: number | undefined
  readonly tokens: number
  /** Before the usage has arrived, tokens are counted by events, which is about the same. */
  readonly exact: boolean
  readonly branches: number
  readonly liveBranches: number
  readonly usage: Usage | undefined
}

/** The branches of one answer and their times, from its events. */
export class Recording {
  readonly tree = new BranchTree()
  readonly times = new Map<number, BranchTimes>([[0, { startMs: 0, endMs: undefined }]])
  readonly events: TimedEvent[] = []
  usage: Usage | undefined
  reason: FinishReason | undefined
  #firstTextMs: number | undefined
  /** Of the answer, behind what was thought. */
  #firstAnswerMs: number | undefined
  /** By branch, of text and reasoning. */
  readonly #chars = new Map<number, number>()
  /** Events that are not text. */
  #others = 0
  #last = -1
  readonly #reasoning = new ReasoningText()

  constructor(events: readonly TimedEvent[] = []) {
    for (const [ms, event] of events) this.add(ms, event)
  }

  /** Events of branches that the user has stopped are left out: they were on their way when the server was told. */
  add(ms: number, event: StreamEvent): void {
    const isText = event.type === 'delta' || event.type === 'reasoning'
    if (event.seq > this.#last && !isText) this.#others++
    this.#last = Math.max(this.#last, event.seq)
    if (this.#isTooLate(event)) return
    this.events.push([ms, event])
    this.tree.apply(event)
    this.#reasoning.push(event)
    if (event.type === 'fork') this.times.set(event.branch, { startMs: ms, endMs: undefined })
    if (event.type === 'branch_end') this.#end(event.branch, ms)
    if (isText) this.#firstTextMs ??= ms
    if (isText) this.#chars.set(event.branch, (this.#chars.get(event.branch) ?? 0) + event.text.length)
    if (event.type === 'delta') this.#firstAnswerMs ??= ms
    if (event.type === 'done') {
      this.usage = event.usage
      this.reason = event.reason
    }
    if (event.type === 'done' || event.type === 'error') this.endAll(ms)
  }

  /** Ends a branch and those below it at once, before the server has. */
  stopBranch(ms: number, id: number): void {
    const branch = this.tree.branch(id)
    if (!branch) return
    for (const child of branch.children) this.stopBranch(ms, child)
    if (branch.reason === undefined)
      this.add(ms, { type: 'branch_end', seq: this.#last, branch: id, reason: 'abort' })
  }

  endAll(ms: number): void {
    for (const id of this.times.keys()) this.#end(id, ms)
  }

  /** In document order; text of branches that still grow is included. */
  text(): string {
    return this.tree.text()
  }

  /** What the model thought before it answered, without its markers; often ''. */
  reasoning(): string {
    return this.#reasoning.text()
  }

  /** Whether there is no text yet but what the model thinks. */
  get isThinking(): boolean {
    return this.#firstTextMs !== undefined && this.#firstAnswerMs === undefined
  }

  /** How long the model has thought; undefined where it has not, or not come to an answer. */
  get thoughtMs(): number | undefined {
    if (this.#firstTextMs === undefined || this.#firstAnswerMs === undefined) return undefined
    const ms = this.#firstAnswerMs - this.#firstTextMs
    return ms > 0 ? ms : undefined
  }

  pieces(): Piece[] {
    return this.tree.pieces()
  }

  figures(): Figures {
    const branches = this.tree.branches()
    return {
      firstTextMs: this.#firstTextMs,
      tokens: this.usage?.completion_tokens ?? Math.max(0, this.#last + 1 - this.#others),
      exact: this.usage !== undefined,
      branches: branches.length,
      liveBranches: branches.filter(({ id }) => this.times.get(id)?.endMs === undefined).length,
      usage: this.usage,
    }
  }

  /** Tokens of one branch: from the usage, or else its share of all characters. */
  tokensOf(id: number): number {
    const counted = this.usage?.branches.find(({ branch }) => branch === id)
    if (counted) return counted.completion_tokens
    const all = [...this.#chars.values()].reduce((sum, chars) => sum + chars, 0)
    const own = this.#chars.get(id) ?? 0
    return all === 0 ? 0 : Math.round((this.figures().tokens * own) / all)
  }

  #isTooLate(event: StreamEvent): boolean {
    switch (event.type) {
      case 'delta':
      case 'reasoning':
      case 'branch_end':
        return this.tree.branch(event.branch)?.reason !== undefined || !this.tree.branch(event.branch)
      case 'fork':
        return this.tree.branch(event.parent)?.reason !== undefined || !this.tree.branch(event.parent)
      default:
        return false
    }
  }

  #end(id: number, ms: number): void {
    const times = this.times.get(id)
    if (times) times.endMs ??= ms
  }
}
