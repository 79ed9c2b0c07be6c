import type {
  Engine,
  EngineErrorCode,
  EngineInfo,
  EngineStats,
  OnEvents,
} from '../../gpu-node/engine/engine.ts'
import { EngineError } from '../../gpu-node/engine/engine-error.ts'
import { DEPTH_STEP, EVENT, FINISH, TRACE_FIELD } from '../../gpu-node/engine/engine-events.ts'
import type { EngineRequest } from '../../gpu-node/engine/engine-request.ts'

/** A fake engine whose events the test scripts, for tests in which only the order of events matters. */
export class ScriptedEngine implements Engine {
  readonly info: EngineInfo
  readonly submitted: EngineRequest[] = []
  /** Calls of abort, as `abort 1`, `abort 1/2`. */
  readonly calls: string[] = []
  refuseWith: EngineErrorCode | undefined
  closed = false
  /** As stats() reports them. */
  runningRequests = 0
  draftedTokens = { medusa: 0, ngram: 0 }
  acceptedTokens = { medusa: 0, ngram: 0 }
  readonly #onEvents: OnEvents
  #rows: number[] = []

  constructor(onEvents: OnEvents, contextTokens = 1024) {
    this.#onEvents = onEvents
    this.info = {
      device: 'script',
      dtype: 'f32',
      kvCacheDtype: 'f32',
      blockTokens: 16,
      numBlocks: 64,
      contextTokens,
    }
  }

  submit(request: EngineRequest): void {
    if (this.refuseWith) throw new EngineError(this.refuseWith, 'refused by the script')
    this.submitted.push(request)
  }

  abort(requestId: number, branchId?: number): void {
    this.calls.push(`abort ${requestId}${branchId === undefined ? '' : `/${branchId}`}`)
  }

  loadGrammar(): Promise<never> {
    return Promise.reject(new Error('a scripted engine has no grammars'))
  }

  stats(): EngineStats {
    return {
      runningRequests: this.runningRequests,
      waitingRequests: 0,
      liveBranches: 0,
      freeBlocks: 64,
      cachedBlocks: 0,
      usedBlocks: 0,
      steps: 0,
      generatedTokens: 0,
      cachedPromptTokens: 0,
      prefillTokens: 0,
      runningBranches: 0,
      preemptedBranches: 0,
      forksRefused: 0,
      grammarMasks: 0,
      grammarMaskSeconds: 0,
      stepSeconds: 0,
      rowLimit: 0,
      forks: 0,
      preemptions: 0,
      draftedTokens: this.draftedTokens,
      acceptedTokens: this.acceptedTokens,
    }
  }

  async close(): Promise<void> {
    this.closed = true
  }

  // Script methods: they collect rows for the next delivery.

  tokens(request: number, branch: number, ids: Iterable<number>): this {
    for (const id of ids) this.#rows.push(EVENT.TOKEN, request, branch, id, 0)
    return this
  }

  /** Log-probabilities that follow a token: its own, then those of the most likely tokens. */
  logprobs(request: number, branch: number, rows: [token: number, logprob: number][]): this {
    const bits = new DataView(new ArrayBuffer(4))
    for (const [token, logprob] of rows) {
      bits.setFloat32(0, logprob)
      this.#rows.push(EVENT.LOGPROB, request, branch, token, bits.getInt32(0))
    }
    return this
  }

  /** The token that ends the branch; its log-probabilities follow. */
  endToken(request: number, branch: number, token: number): this {
    this.#rows.push(EVENT.END_TOKEN, request, branch, token, 0)
    return this
  }

  fork(request: number, parent: number, child: number, position = 0): this {
    this.#rows.push(EVENT.FORK, request, parent, child, position)
    return this
  }

  /** `by`: the token that ended it. */
  end(request: number, branch: number, reason: number = FINISH.STOP, by = -1): this {
    this.#rows.push(EVENT.BRANCH_END, request, branch, reason, by + 1)
    return this
  }

  /** What `source` (DRAFT_SOURCE) drafted at this depth, and how many tokens of it were accepted. */
  drafts(request: number, source: number, depth: number, drafted: number, accepted: number): this {
    this.#rows.push(EVENT.SPECULATION, request, source + DEPTH_STEP * depth, drafted, accepted)
    return this
  }

  /** The end of a step in a request's trace; `figures` are pairs of a and b by the names of TRACE_FIELD. */
  step(
    request: number,
    step: number,
    micros: number,
    figures: Partial<Record<keyof typeof TRACE_FIELD, [number, number]>> = {},
  ): this {
    for (const [name, [a, b]] of Object.entries({ ...figures, STEP: [step, micros] as [number, number] }))
      this.#rows.push(EVENT.TRACE, request, TRACE_FIELD[name as keyof typeof TRACE_FIELD], a, b)
    return this
  }

  finish(request: number, reason: number = FINISH.STOP): this {
    this.#rows.push(EVENT.FINISH, request, 0, reason, 0)
    return this
  }

  /** Delivers the collected rows as one batch. */
  deliver(failure?: string): void {
    const rows = Int32Array.from(this.#rows)
    this.#rows = []
    this.#onEvents(rows, failure)
  }
}
