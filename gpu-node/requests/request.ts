import { OrderedText } from '../../shared/branch-tree.ts'
import { toAparError } from '../../shared/errors.ts'
import type { FinishReason, Joints, StreamEvent, Usage } from '../../shared/protocol/events.ts'
import { PROTOCOL_VERSION } from '../../shared/protocol/events.ts'
import { type NodeBatch, ROW_WIDTH } from '../../shared/protocol/node.ts'
import type { Engine } from '../engine/engine.ts'
import { EVENT, FINISH, float32 } from '../engine/engine-events.ts'
import type { RestoredBranch } from '../engine/engine-request.ts'
import type { ReasoningFormat } from '../reasoning/reasoning-format.ts'
import { type ParserStart, ReasoningParser } from '../reasoning/reasoning-parser.ts'
import { BranchText } from '../text/branch-text.ts'
import type { TokenBytes } from '../text/token-bytes.ts'
import { BatchSize } from './batch-size.ts'
import { DraftedTokens } from './drafted-tokens.ts'
import { givenTokens } from './given-tokens.ts'
import { engineError, REASONS, toErrorEvent, type Unnumbered } from './outcomes.ts'
import type { PromptScores } from './prompt-scores.ts'
import type { RequestWatch } from './request-watch.ts'
import { restoredBranches } from './restored-branches.ts'
import type { ToolAnswer } from './tool-answer.ts'
import { TraceRecorder } from './trace-recorder.ts'

export interface RequestOptions {
  /** The engine's id of this request. */
  id: number
  stream: string
  model: string
  joints: Joints
  fingerprint: string
  promptTokens: number
  /** For a request that wants the ids of its prompt. */
  returnedPrompt?: Int32Array | undefined
  /** For a request that wants the log-probabilities of its prompt. */
  promptScores?: PromptScores | undefined
  /** Deltas have the number of their branch's tokens. */
  tokenCounts?: boolean | undefined
  stop: readonly string[]
  /** Tokens that the request has named, of those that may end a branch. */
  stopTokens: readonly number[]
  /** `document`: the engine matches within branches; here the first stop string in document order is found. */
  stopScope: 'branch' | 'document'
  /** For an answer that may call tools, which then has no branches; stop strings are looked for in its content. */
  toolAnswer?: ToolAnswer | undefined
  /** For an answer that may begin with reasoning; stop strings are looked for in its content. */
  reasoning?: { readonly format: ReasoningFormat; readonly start: ParserStart } | undefined
  bytes: TokenBytes
  dropsLeadingSpace: boolean
  /** For a stream with `trace` events: the ids of the prompt. */
  tracedPrompt?: Int32Array | undefined
  engine: Pick<Engine, 'abort'>
  /** Receives the stream's batches; together they form its log. */
  publish: (batch: NodeBatch) => void
  watch: RequestWatch
  /** Batches from another gpu node that this node continues. */
  log?: readonly NodeBatch[] | undefined
  /** Rows with which a new answer begins: what is known of it before anything is decoded. */
  given?: readonly number[] | undefined
}

const ROOT = 0

/**
 * One request from acceptance to `done` or `error`: converts engine events to stream events. Sends at most one
 * delta per branch and flush, or part of a large delivery.
 */
export class RunningRequest {
  readonly #options: RequestOptions
  readonly #branches = new Map<number, BranchText>()
  /** Branches with unsent text, in order of its arrival. */
  readonly #touched = new Set<number>()
  #seq = 0
  #reachedLength = false
  /** In document scope: the client's text, and how many tokens a parent had when a branch forked. */
  readonly #ordered: OrderedText | undefined
  readonly #tokensAtFork = new Map<number, number>()
  /** Stop strings that end a branch for the client. */
  readonly #branchStops: readonly string[]
  /** Who scores a prompt counts on an entry for each token, with text or not. */
  readonly #everyToken: boolean
  #finished = false
  #hasText = false
  /** True while the log is replayed: no events are sent, and the engine is not called. */
  #replaying = false
  /** True until what is given has been taken over: nothing is decoded yet. */
  #giving = false
  #rows: number[] = []
  /** Until they are sent. */
  #scores: PromptScores | undefined
  #events: StreamEvent[] = []
  readonly #size: BatchSize
  readonly #drafted = new DraftedTokens()
  readonly #trace: TraceRecorder | undefined

  constructor(options: RequestOptions) {
    const { bytes, stop, stopScope, toolAnswer, reasoning, joints, dropsLeadingSpace, tracedPrompt } = options
    this.#options = options
    this.#size = new BatchSize(bytes, tracedPrompt !== undefined)
    if (tracedPrompt) this.#trace = new TraceRecorder(tracedPrompt)
    const scope = toolAnswer || reasoning ? 'document' : stopScope
    const ordered = scope === 'document' && stop.length > 0
    if (ordered) this.#ordered = new OrderedText(joints, stop)
    this.#branchStops = ordered ? [] : stop
    const parser = reasoning && new ReasoningParser(reasoning.format, reasoning.start)
    this.#everyToken = options.promptScores !== undefined
    this.#branches.set(
      ROOT,
      new BranchText(bytes, this.#branchStops, dropsLeadingSpace, parser, this.#everyToken),
    )
    if (options.log) this.#replay(options.log)
    if (this.#seq === 0) this.#accept()
    // A log with a token has the prompt's event, too.
    if (this.#seq <= 1) this.#scores = options.promptScores
    if (options.given) this.#give(options.given)
  }

  /** Called when the engine has accepted the request; publishes what a new stream begins with. */
  begin(): void {
    this.#publish()
  }

  #accept(): void {
    const { stream, model, joints, fingerprint, promptTokens, returnedPrompt } = this.#options
    const created = Math.floor(Date.now() / 1000)
    this.#emit({
      type: 'accepted',
      version: PROTOCOL_VERSION,
      stream,
      model,
      joints,
      created,
      fingerprint,
      prompt_tokens: promptTokens,
      ...(returnedPrompt && { prompt_token_ids: [...returnedPrompt] }),
    })
  }

  get stream(): string {
    return this.#options.stream
  }

  /** Whether {@link flush} should not wait: for the first text, and for the end. */
  get urgent(): boolean {
    return this.#finished || !this.#hasText
  }

  get finished(): boolean {
    return this.#finished
  }

  /** A stop string in document order has ended the answer. */
  get #cut(): boolean {
    return this.#ordered?.end !== undefined
  }

  /** All that the client will be given was in the log, or is given. */
  get complete(): boolean {
    return this.#cut || [...this.#branches.values()].every(({ ended }) => ended)
  }

  /** Ends all branches; `done` with reason `abort` follows when the engine has aborted the request. */
  cancel(): void {
    if (!this.#finished) this.#options.engine.abort(this.#options.id)
  }

  /** Ends a branch and its descendants; branch 0 ends all branches. */
  cancelBranch(branch: number): void {
    if (branch === ROOT) this.cancel()
    else if (!this.#finished) this.#options.engine.abort(this.#options.id, branch)
  }

  /**
   * Handles the engine event at `rows[row]`; call {@link flush} after the last event of a delivery. A batch that has
   * become large is published before that.
   */
  handle(rows: Int32Array, row: number, failure: string | undefined): void {
    if (this.#finished) return
    const kind = rows[row] ?? 0
    const branch = rows[row + 2] ?? 0
    const a = rows[row + 3] ?? 0
    const b = rows[row + 4] ?? 0
    // Log-probabilities belong to the token before them, and go with it.
    if (this.#size.isFull && kind !== EVENT.LOGPROB) this.flush()
    this.#size.add(kind, a)
    if (kind === EVENT.PROMPT_LOGPROB) {
      this.#scores?.add(branch, a, float32(b))
      return
    }
    if (this.#scores) this.#sendScores(this.#scores)
    if (kind === EVENT.FINISH) this.#finish(a, b, failure)
    else if (kind === EVENT.SPECULATION) this.#draft(branch, a, b)
    else if (kind === EVENT.TRACE) this.#trace?.figure(branch, a, b)
    else if (kind === EVENT.END_TOKEN) this.#branches.get(branch)?.endToken()
    else if (kind === EVENT.LOGPROB) this.#branches.get(branch)?.addLogprob(a, float32(b))
    else this.#advance(kind, branch, a, b)
  }

  /** Publishes the collected events and text as one batch. */
  flush(): void {
    this.#sendTexts()
    this.#sendTrace()
    this.#publish()
  }

  /**
   * The branches that the engine must restore for a request with a log, or with which it begins. Prompt and model must be
   * the same as on the gpu node that wrote the log.
   */
  restored(): RestoredBranch[] {
    const { log = [], given = [] } = this.#options
    const rows = [...log.flatMap((batch) => batch.rows), ...given]
    return restoredBranches(rows, (branch) => {
      const text = this.#branches.get(branch)
      return text && (text.ended || text.stopped)
    })
  }

  /** Ends a stream whose log lacks only the last event: all its branches have ended. */
  finishRestored(): void {
    this.#finish(FINISH.STOP, 0, undefined)
    this.#publish()
  }

  /** Ends the stream with an error and aborts it in the engine. */
  fail(thrown: unknown): void {
    if (this.#finished) return
    this.cancel()
    this.#sendTexts()
    this.#sendTrace()
    this.#finished = true
    this.#endWatch('error', 0)
    this.#emit(toErrorEvent(toAparError(thrown)))
    this.#publish()
  }

  /** Takes over what the engine that has the request now does not report. */
  #restore(rows: readonly number[]): void {
    for (let row = 0; row + ROW_WIDTH <= rows.length; row += ROW_WIDTH) {
      const [kind = 0, branch = 0, a = 0, b = 0] = rows.slice(row, row + ROW_WIDTH)
      if (kind === EVENT.SPECULATION) this.#draft(branch, a, b)
      else this.#advance(kind, branch, a, b)
    }
  }

  #give(rows: readonly number[]): void {
    this.#giving = true
    this.#restore(rows)
    this.#sendTexts()
    for (const [branch, { tokens }] of this.#branches) this.#options.watch.restored(branch, tokens)
    this.#giving = this.#hasText = false
  }

  #replay(log: readonly NodeBatch[]): void {
    this.#replaying = true
    for (const { rows, events } of log) {
      this.#restore(rows)
      this.#sendTexts()
      for (const event of events) {
        this.#ordered?.push(event)
        if (event.type === 'trace') this.#trace?.recorded(event.steps)
      }
      this.#seq = (events.at(-1)?.seq ?? -1) + 1
    }
    for (const [branch, text] of this.#branches) {
      // The log of an older node does not have the end of a branch at a stop string.
      text.ended ||= text.stopped
      this.#options.watch.restored(branch, text.tokens)
    }
    this.#rows = []
    this.#replaying = false
  }

  /** The engine has reported all of them before its first other event. */
  #sendScores(scores: PromptScores): void {
    this.#scores = undefined
    for (const tokens of scores.pieces()) {
      this.#emit({ type: 'prompt', tokens })
      this.#publish()
    }
  }

  /** In the log, so that a gpu node that continues the stream adds what it drafts. */
  #draft(place: number, drafted: number, accepted: number): void {
    this.#rows.push(EVENT.SPECULATION, place, drafted, accepted)
    this.#drafted.add(place, drafted, accepted)
  }

  #advance(kind: number, branch: number, a: number, b: number): void {
    const text = this.#branches.get(branch)
    if (!text || text.ended || ((text.stopped || this.#cut) && kind !== EVENT.BRANCH_END)) return
    if (kind === EVENT.TOKEN || kind === EVENT.FORK || kind === EVENT.BRANCH_END)
      this.#rows.push(kind, branch, a, b)
    if (kind === EVENT.TOKEN) this.#token(branch, text, a)
    else if (kind === EVENT.FORK) this.#fork(branch, text, a, b)
    else if (kind === EVENT.BRANCH_END) this.#engineEnded(branch, text, REASONS[a] ?? 'error', b - 1)
  }

  #token(branch: number, text: BranchText, token: number): void {
    this.#touched.add(branch)
    const completed = text.push(token)
    this.#trace?.token(branch, token, completed)
  }

  #fork(parentId: number, parent: BranchText, child: number, position: number): void {
    const rest = parent.flush(false)
    if (parent.stopped) return
    this.#trace?.fork(parentId, child, position, rest)
    const at = parent.length
    this.#sendText(parentId)
    const { bytes, reasoning } = this.#options
    const format = parent.isReasoning ? reasoning?.format : undefined
    const parser = format && new ReasoningParser(format, 'branch')
    const childText = new BranchText(bytes, this.#branchStops, false, parser, this.#everyToken)
    this.#branches.set(child, childText)
    this.#tokensAtFork.set(child, parent.tokens)
    const place = parser ? { at, reasoning_at: parent.reasoningLength } : { at }
    this.#emit({ type: 'fork', branch: child, parent: parentId, ...place })
  }

  #engineEnded(branch: number, text: BranchText, reason: FinishReason, endToken: number): void {
    const rest = text.flush(true)
    text.ended = true
    // A character that the limit cut off can complete a stop string.
    const outcome = text.stopped ? 'stop' : reason
    this.#trace?.end(branch, outcome, rest)
    if (outcome === 'length') this.#reachedLength = true
    this.#sendText(branch)
    const stop = this.#options.stopTokens.includes(endToken) ? { stop_token: endToken } : {}
    const logprobs = this.#cut ? [] : text.takeLastLogprobs()
    this.#emit({
      type: 'branch_end',
      branch,
      reason: outcome,
      ...stop,
      ...(logprobs.length > 0 && { logprobs }),
    })
  }

  #finish(code: number, cachedTokens: number, failure: string | undefined): void {
    this.#sendTexts()
    this.#sendTrace()
    this.#finished = true
    const reason = REASONS[code] ?? 'error'
    const completed = this.#cut || !this.#reachedLength ? 'stop' : 'length'
    // The engine was told to abort what follows a stop string.
    const completes = this.#cut || (reason !== 'abort' && reason !== 'error')
    const outcome = completes ? completed : reason
    this.#endWatch(outcome, cachedTokens)
    if (outcome === 'error') {
      this.#emit(engineError(code, failure))
    } else {
      const usage = this.#usage(cachedTokens)
      const length = this.#cut ? { text_length: this.#ordered?.length } : {}
      this.#emit({ type: 'done', reason: outcome, usage, ...length })
    }
  }

  #sendTexts(): void {
    for (const branch of this.#touched) this.#sendText(branch)
  }

  #sendText(branch: number): void {
    this.#touched.delete(branch)
    const branchText = this.#branches.get(branch)
    if (!branchText) return
    if (!this.#replaying && !this.#giving) this.#options.watch.progress(branch, branchText.tokens)
    this.#sendReasoning(branch, branchText)
    const text = branchText.take()
    const { toolAnswer } = this.#options
    if (toolAnswer) this.#sendParts(branch, branchText, toolAnswer.take(text, branchText.ended))
    else if (text && !this.#cut) this.#sendDelta(branch, branchText, text)
  }

  #sendReasoning(branch: number, branchText: BranchText): void {
    const text = branchText.takeReasoning()
    if (text === '' || this.#cut) return
    this.#hasText = true
    const counts = this.#options.tokenCounts ? { tokens: branchText.tokens } : {}
    this.#emit({ type: 'reasoning', branch, text, ...counts })
  }

  #sendDelta(branch: number, branchText: BranchText, text: string): void {
    this.#hasText = true
    const logprobs = branchText.takeLogprobs()
    const counts = this.#options.tokenCounts ? { tokens: branchText.tokens } : {}
    this.#emit({ type: 'delta', branch, text, ...(logprobs.length > 0 && { logprobs }), ...counts })
  }

  #sendParts(branch: number, branchText: BranchText, parts: ReturnType<ToolAnswer['take']>): void {
    for (const part of parts) {
      // Within a delivery, the stop string may be in front of a call.
      if (this.#cut) return
      if (typeof part === 'string') {
        this.#sendDelta(branch, branchText, part)
        continue
      }
      this.#hasText = true
      const counted = part.type === 'tool_arguments' && this.#options.tokenCounts
      this.#emit(counted ? { ...part, tokens: branchText.tokens } : part)
    }
  }

  #sendTrace(): void {
    const steps = this.#trace?.take() ?? []
    if (steps.length > 0) this.#emit({ type: 'trace', steps })
  }

  #endWatch(outcome: FinishReason, cachedPromptTokens: number): void {
    const branches = this.#tokensGiven()
    const completionTokens = branches.reduce((sum, { completion_tokens }) => sum + completion_tokens, 0)
    this.#options.watch.end({
      ...{ outcome, cachedPromptTokens, completionTokens, branches: branches.length },
      speculation: this.#drafted.usage,
    })
  }

  #tokensGiven(): Usage['branches'] {
    const end = this.#ordered?.end
    const given =
      end && this.#ordered
        ? givenTokens(this.#ordered.tree, end, {
            all: (branch) => this.#branches.get(branch)?.tokens ?? 0,
            upTo: (branch, length) => this.#branches.get(branch)?.tokensFor(length) ?? 0,
            upToFork: (child) => this.#tokensAtFork.get(child) ?? 0,
          })
        : new Map([...this.#branches].map(([branch, { tokens }]) => [branch, tokens]))
    return [...given]
      .sort(([a], [b]) => a - b)
      .map(([branch, completion_tokens]) => ({ branch, completion_tokens }))
  }

  #usage(cachedTokens: number): Usage {
    const branches = this.#tokensGiven()
    const completion = branches.reduce((sum, { completion_tokens }) => sum + completion_tokens, 0)
    const prompt = this.#options.promptTokens
    const speculation = this.#drafted.usage
    const reasoning = branches.reduce((sum, { branch, completion_tokens }) => {
      return sum + Math.min(completion_tokens, this.#branches.get(branch)?.reasoningTokens ?? 0)
    }, 0)
    return {
      prompt_tokens: prompt,
      cached_prompt_tokens: cachedTokens,
      completion_tokens: completion,
      total_tokens: prompt + completion,
      branches,
      ...(this.#options.reasoning && { reasoning_tokens: reasoning }),
      ...(speculation && { apar: { speculation } }),
    }
  }

  #emit(event: Unnumbered<StreamEvent>): void {
    if (this.#replaying) return
    const numbered = { ...event, seq: this.#seq++ }
    this.#events.push(numbered)
    if (!this.#ordered || this.#cut) return
    this.#ordered.push(numbered)
    if (this.#cut && !this.#finished) this.cancel()
  }

  /** Rows without an event yet (for example half a character) are kept for the next batch. */
  #publish(): void {
    if (this.#events.length === 0) return
    const batch = { rows: this.#rows, events: this.#events }
    this.#rows = []
    this.#events = []
    this.#size.reset()
    this.#options.publish(batch)
  }
}
