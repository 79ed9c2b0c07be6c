import { type AparError, toAparError } from '../shared/errors.ts'
import type { FinishReason, Joints, StreamEvent, Usage } from '../shared/protocol/events.ts'
import { PROTOCOL_VERSION } from '../shared/protocol/events.ts'
import { BranchText } from './branch-text.ts'
import { type Engine, EVENT, FINISH } from './engine/types.ts'
import type { TokenBytes } from './text/token-bytes.ts'

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
  emit: (event: StreamEvent) => void
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

  constructor(options: RequestOptions) {
    this.#options = options
    this.#branches.set(ROOT, new BranchText(options.bytes, options.stop, options.dropsLeadingSpace))
    this.#emit({
      type: 'accepted',
      version: PROTOCOL_VERSION,
      stream: options.stream,
      model: options.model,
      joints: options.joints,
      created: Math.floor(Date.now() / 1000),
      fingerprint: options.fingerprint,
    })
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
    const kind = rows[row]
    const branch = rows[row + 2] ?? 0
    const a = rows[row + 3] ?? 0
    if (kind === EVENT.TOKEN) this.#token(branch, a)
    else if (kind === EVENT.LOGPROB) this.#branches.get(branch)?.addLogprob(a, float32(rows[row + 4] ?? 0))
    else if (kind === EVENT.FORK) this.#fork(branch, a)
    else if (kind === EVENT.BRANCH_END) this.#engineEnded(branch, REASONS[a] ?? 'error')
    else if (kind === EVENT.FINISH) this.#finish(REASONS[a] ?? 'error', rows[row + 4] ?? 0, failure)
  }

  /** Sends the text that has gathered. */
  flush(): void {
    for (const branch of this.#touched) this.#sendText(branch)
  }

  /** Ends the stream because of an error, and the engine's work on it. */
  fail(thrown: unknown): void {
    if (this.#finished) return
    this.cancel()
    this.flush()
    this.#finished = true
    this.#emit(toErrorEvent(toAparError(thrown)))
  }

  #token(branch: number, token: number): void {
    const text = this.#branches.get(branch)
    // The engine samples on until it has heard of a stop string; that text does not exist for the client.
    if (!text || text.ended) return
    this.#touched.add(branch)
    if (text.push(token)) this.#stop(branch, text)
  }

  #stop(branch: number, text: BranchText): void {
    this.#end(branch, text, 'stop')
    this.#options.engine.stopBranch(this.#options.id, branch)
  }

  #fork(parentId: number, child: number): void {
    const parent = this.#branches.get(parentId)
    if (!parent || parent.ended) {
      // Forked after the parent's end, as the client sees it: nobody asked for this branch.
      this.#options.engine.abort(this.#options.id, child)
      return
    }
    if (parent.flush()) {
      this.#stop(parentId, parent)
      this.#options.engine.abort(this.#options.id, child)
      return
    }
    const at = parent.length
    this.#sendText(parentId)
    this.#branches.set(child, new BranchText(this.#options.bytes, this.#options.stop, false))
    this.#emit({ type: 'fork', branch: child, parent: parentId, at })
  }

  #engineEnded(branch: number, reason: FinishReason): void {
    const text = this.#branches.get(branch)
    if (!text || text.ended) return
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
    this.flush()
    this.#finished = true
    if (reason === 'error') {
      const message = `the engine failed${failure ? `: ${failure}` : ''}`
      this.#emit({ type: 'error', code: 'engine_error', message, param: null })
    } else {
      // What the engine did behind a stop string does not count: its own reason says more than the client saw.
      const seen = this.#cutShort ? 'length' : 'stop'
      this.#emit({
        type: 'done',
        reason: reason === 'abort' ? reason : seen,
        usage: this.#usage(cachedTokens),
      })
    }
  }

  #sendText(branch: number): void {
    this.#touched.delete(branch)
    const branchText = this.#branches.get(branch)
    const text = branchText?.take()
    if (!branchText || !text) return
    const logprobs = branchText.takeLogprobs()
    this.#emit({ type: 'delta', branch, text, ...(logprobs.length > 0 && { logprobs }) })
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
    this.#options.emit({ ...event, seq: this.#seq++ })
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
