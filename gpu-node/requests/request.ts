import { type AparError, toAparError } from '../../shared/errors.ts'
import type { FinishReason, Joints, StreamEvent, Usage } from '../../shared/protocol/events.ts'
import { PROTOCOL_VERSION } from '../../shared/protocol/events.ts'
import { type NodeBatch, ROW_WIDTH } from '../../shared/protocol/node.ts'
import { EVENT, FINISH } from '../engine/engine-events.ts'
import type { RestoredBranch } from '../engine/engine-request.ts'
import type { Engine } from '../engine/types.ts'
import type { RequestWatch } from '../observe/request-watch.ts'
import { BranchText } from '../text/branch-text.ts'
import type { TokenBytes } from '../text/token-bytes.ts'
import { restoredBranches } from './restored-branches.ts'

/** A StreamEvent before it gets its number. */
type Unnumbered<E> = E extends StreamEvent ? Omit<E, 'seq'> : never

export interface RequestOptions {
  /** The engine's id of this request. */
  id: number
  stream: string
  model: string
  joints: Joints
  fingerprint: string
  promptTokens: number
  stop: readonly string[]
  bytes: TokenBytes
  dropsLeadingSpace: boolean
  engine: Pick<Engine, 'abort' | 'stopBranch'>
  /** Gets the stream's batches; together they are its log. */
  publish: (batch: NodeBatch) => void
  watch: RequestWatch
  /** What another gpu node made of the stream: this one goes on behind it. */
  log?: readonly NodeBatch[] | undefined
}

const REASONS: Record<number, FinishReason> = {
  [FINISH.STOP]: 'stop',
  [FINISH.LENGTH]: 'length',
  [FINISH.ABORT]: 'abort',
  [FINISH.ERROR]: 'error',
}

const ROOT = 0

/**
 * One request's life, from acceptance to `done` or `error`: engine events in, stream events out. Text is sent at most
 * once per branch and batch of engine events.
 */
export class RunningRequest {
  readonly #options: RequestOptions
  readonly #branches = new Map<number, BranchText>()
  /** Branches with text to send, in the order in which it came. */
  readonly #touched = new Set<number>()
  #seq = 0
  #cutShort = false
  #finished = false
  /** True while the log is read again: nobody is told, and the engine has none of it. */
  #replaying = false
  #rows: number[] = []
  #events: StreamEvent[] = []

  constructor(options: RequestOptions) {
    this.#options = options
    this.#branches.set(ROOT, new BranchText(options.bytes, options.stop, options.dropsLeadingSpace))
    if (options.log) this.#replay(options.log)
  }

  /** The engine has taken the request. */
  begin(): void {
    if (this.#seq > 0) return
    const { stream, model, joints, fingerprint } = this.#options
    const created = Math.floor(Date.now() / 1000)
    this.#emit({
      type: 'accepted',
      version: PROTOCOL_VERSION,
      stream,
      model,
      joints,
      created,
      fingerprint,
    })
    this.#publish()
  }

  get stream(): string {
    return this.#options.stream
  }

  get finished(): boolean {
    return this.#finished
  }

  /** Ends everything; `done` with reason `abort` follows when the engine has let go. */
  cancel(): void {
    if (!this.#finished) this.#options.engine.abort(this.#options.id)
  }

  /** Ends a branch and what lies below it; branch 0 ends everything. */
  cancelBranch(branch: number): void {
    if (branch === ROOT) this.cancel()
    else if (!this.#finished) this.#options.engine.abort(this.#options.id, branch)
  }

  /** Takes the engine event that begins at `rows[row]`; call {@link flush} after the last of a batch. */
  handle(rows: Int32Array, row: number, failure: string | undefined): void {
    if (this.#finished) return
    const kind = rows[row] ?? 0
    const branch = rows[row + 2] ?? 0
    const a = rows[row + 3] ?? 0
    const b = rows[row + 4] ?? 0
    if (kind === EVENT.FINISH) this.#finish(REASONS[a] ?? 'error', b, failure)
    else if (kind === EVENT.LOGPROB) this.#branches.get(branch)?.addLogprob(a, float32(b))
    else this.#advance(kind, branch, a, b)
  }

  /** Publishes what has happened, with the text that has gathered. */
  flush(): void {
    this.#sendTexts()
    this.#publish()
  }

  /**
   * What the engine has to go on with, for a request that began with a log. `promptTokens` and the model must be those
   * of the log's gpu node.
   */
  restored(): RestoredBranch[] {
    const rows = (this.#options.log ?? []).flatMap((batch) => batch.rows)
    return restoredBranches(rows, (branch) => this.#branches.get(branch)?.ended)
  }

  /** Ends a stream whose log lacks only the last event: every branch had ended. */
  finishRestored(): void {
    this.#finish('stop', 0, undefined)
    this.#publish()
  }

  /** Ends the stream because of an error, and the engine's work on it. */
  fail(thrown: unknown): void {
    if (this.#finished) return
    this.cancel()
    this.#sendTexts()
    this.#finished = true
    this.#endWatch('error', 0)
    this.#emit(toErrorEvent(toAparError(thrown)))
    this.#publish()
  }

  #replay(log: readonly NodeBatch[]): void {
    this.#replaying = true
    for (const { rows, events } of log) {
      for (let row = 0; row + ROW_WIDTH <= rows.length; row += ROW_WIDTH) {
        const [kind = 0, branch = 0, a = 0, b = 0] = rows.slice(row, row + ROW_WIDTH)
        this.#advance(kind, branch, a, b)
      }
      this.#sendTexts()
      this.#seq = (events.at(-1)?.seq ?? -1) + 1
    }
    for (const [branch, { tokens }] of this.#branches) this.#options.watch.restored(branch, tokens)
    this.#rows = []
    this.#replaying = false
  }

  #advance(kind: number, branch: number, a: number, b: number): void {
    // The engine goes on until it has heard of a stop string or a cancel; that does not exist for the client.
    const text = this.#branches.get(branch)
    if (!text || text.ended) {
      if (kind === EVENT.FORK) this.#abort(a)
      return
    }
    if (kind === EVENT.TOKEN || kind === EVENT.FORK || kind === EVENT.BRANCH_END)
      this.#rows.push(kind, branch, a, b)
    if (kind === EVENT.TOKEN) this.#token(branch, text, a)
    else if (kind === EVENT.FORK) this.#fork(branch, text, a)
    else if (kind === EVENT.BRANCH_END) this.#engineEnded(branch, text, REASONS[a] ?? 'error')
  }

  #token(branch: number, text: BranchText, token: number): void {
    this.#touched.add(branch)
    if (text.push(token)) this.#stop(branch, text)
  }

  #stop(branch: number, text: BranchText): void {
    this.#end(branch, text, 'stop')
    if (!this.#replaying) this.#options.engine.stopBranch(this.#options.id, branch)
  }

  /** Of a branch that was forked after its parent's end, as the client sees it: nobody asked for it. */
  #abort(branch: number): void {
    if (!this.#replaying) this.#options.engine.abort(this.#options.id, branch)
  }

  #fork(parentId: number, parent: BranchText, child: number): void {
    if (parent.flush()) {
      this.#stop(parentId, parent)
      this.#abort(child)
      return
    }
    const at = parent.length
    this.#sendText(parentId)
    this.#branches.set(child, new BranchText(this.#options.bytes, this.#options.stop, false))
    this.#emit({ type: 'fork', branch: child, parent: parentId, at })
  }

  #engineEnded(branch: number, text: BranchText, reason: FinishReason): void {
    const stopped = text.flush()
    this.#end(branch, text, stopped ? 'stop' : reason)
  }

  #end(branch: number, text: BranchText, reason: FinishReason): void {
    text.ended = true
    if (reason === 'length') this.#cutShort = true
    this.#sendText(branch)
    this.#emit({ type: 'branch_end', branch, reason })
  }

  #finish(reason: FinishReason, cachedTokens: number, failure: string | undefined): void {
    this.#sendTexts()
    this.#finished = true
    // What the engine did behind a stop string does not count: its own reason says more than the client saw.
    const seen = this.#cutShort ? 'length' : 'stop'
    const outcome = reason === 'abort' || reason === 'error' ? reason : seen
    this.#endWatch(outcome, cachedTokens)
    if (outcome === 'error') {
      // An engine that lives has two reasons to give one request up.
      const why = failure ?? 'the logits were not finite, or no memory was left'
      const message = `the engine failed: ${why}`
      this.#emit({ type: 'error', code: 'engine_error', message, param: null })
    } else {
      this.#emit({ type: 'done', reason: outcome, usage: this.#usage(cachedTokens) })
    }
  }

  #sendTexts(): void {
    for (const branch of this.#touched) this.#sendText(branch)
  }

  #sendText(branch: number): void {
    this.#touched.delete(branch)
    const branchText = this.#branches.get(branch)
    if (!branchText) return
    if (!this.#replaying) this.#options.watch.progress(branch, branchText.tokens)
    const text = branchText.take()
    if (!text) return
    const logprobs = branchText.takeLogprobs()
    this.#emit({ type: 'delta', branch, text, ...(logprobs.length > 0 && { logprobs }) })
  }

  #endWatch(outcome: FinishReason, cachedPromptTokens: number): void {
    const branches = [...this.#branches.values()]
    const completionTokens = branches.reduce((sum, { tokens }) => sum + tokens, 0)
    this.#options.watch.end({ outcome, cachedPromptTokens, completionTokens, branches: branches.length })
  }

  #usage(cachedTokens: number): Usage {
    const branches = [...this.#branches].map(([branch, { tokens }]) => ({
      branch,
      completion_tokens: tokens,
    }))
    const completion = branches.reduce((sum, { completion_tokens }) => sum + completion_tokens, 0)
    const prompt = this.#options.promptTokens
    return {
      prompt_tokens: prompt,
      cached_prompt_tokens: cachedTokens,
      completion_tokens: completion,
      total_tokens: prompt + completion,
      branches,
    }
  }

  #emit(event: Unnumbered<StreamEvent>): void {
    if (!this.#replaying) this.#events.push({ ...event, seq: this.#seq++ })
  }

  /** Rows that no event shows yet (half a character) wait for those that do. */
  #publish(): void {
    if (this.#events.length === 0) return
    const batch = { rows: this.#rows, events: this.#events }
    this.#rows = []
    this.#events = []
    this.#options.publish(batch)
  }
}

/** The event of a request that was refused before it began: its stream has no other. */
export function refusalEvent(error: AparError): StreamEvent {
  return { ...toErrorEvent(error), seq: 0 }
}

function toErrorEvent(error: AparError): Unnumbered<StreamEvent> {
  return { type: 'error', code: error.code, message: error.message, param: error.param ?? null }
}

/** A float32 whose bits came as an int32. */
function float32(bits: number): number {
  FLOAT_BITS.setInt32(0, bits)
  return FLOAT_BITS.getFloat32(0)
}

const FLOAT_BITS = new DataView(new ArrayBuffer(4))
