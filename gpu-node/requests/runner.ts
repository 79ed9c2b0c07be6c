import { AparError, toAparError } from '../../shared/errors.ts'
import type { CallContext, ForcedBranch, NodeBatch, Tenant } from '../../shared/protocol/node.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import type { GoodTokenAnswer, TokenQuery } from '../../shared/protocol/token-query.ts'
import type { Checkpoint } from '../checkpoint/checkpoint.ts'
import type { Engine, EngineStats, OnEvents } from '../engine/engine.ts'
import { EngineError } from '../engine/engine-error.ts'
import { EVENT, EVENT_WIDTH, FINISH } from '../engine/engine-events.ts'
import { type EngineGrammar, type RequestDefaults, toEngineRequest } from '../engine/engine-request.ts'
import type { LoadGrammar } from '../grammar/grammars.ts'
import type { ModelReasoning } from '../reasoning/reasoning-format.ts'
import { type AnswerStart, answerStart } from '../reasoning/reasoning-start.ts'
import { promptTooLong } from '../text/prompt-length.ts'
import type { Prompts } from '../text/prompt-pool.ts'
import { type TokenBytes, withMarkers } from '../text/token-bytes.ts'
import { type ModelTools, UNTRAINED } from '../tools/tool-format.ts'
import { AnswerFormats, type ServedGrammars } from './answer-formats.ts'
import { FramePacing } from './frame-pacing.ts'
import { fingerprintOf, requireSameModel } from './model-fingerprint.ts'
import { PromptScores } from './prompt-scores.ts'
import { RunningRequest } from './request.ts'
import { type RequestObserver, RequestWatch } from './request-watch.ts'
import { TenantNumbers } from './tenant-numbers.ts'
import { ToolAnswer } from './tool-answer.ts'

const MAX_REQUEST_ID = 2 ** 31 - 1

/** Operations that callers may use on a running request. */
export type RequestHandle = Pick<RunningRequest, 'cancel' | 'cancelBranch' | 'fail'>

/** A checkpoint without the tables of its tokenizer: those are large, and only the threads of the prompts need them. */
export type ServedCheckpoint = Omit<Checkpoint, 'text'> & { text: Pick<Checkpoint['text'], 'chatTemplate'> }

export interface RunnerOptions {
  /** What clients call the model. */
  model: string
  checkpoint: ServedCheckpoint
  /** Belongs to the runner, which closes it. */
  prompts: Prompts
  maxBranches: number
  openEngine: (onEvents: OnEvents) => Promise<Engine>
  /** Belongs to the runner, too. Without it, requests with a format are refused. */
  openGrammars?: ((load: LoadGrammar) => ServedGrammars) | undefined
  /** How the model calls tools. Default: in the form for models that were not trained to. */
  tools?: ModelTools | undefined
  /** How the model marks its reasoning. Default: it does not. */
  reasoning?: ModelReasoning | undefined
  /** Whether callers may say what the model answers. Default false. */
  allowReplay?: boolean | undefined
}

/** A request with its prompt, and what its caller gave with it. */
interface EncodedStart {
  stream: string
  request: GenerateRequest
  publish: (batch: NodeBatch) => void
  log: readonly NodeBatch[]
  callContext: CallContext | undefined
  tenant: Tenant | undefined
  forced: readonly ForcedBranch[]
  arrivedAt: number
  prompt: Int32Array
  answerStart: AnswerStart | undefined
  grammar: EngineGrammar | undefined
  /** Rows with which the answer begins. */
  given: readonly number[] | undefined
}

export interface StartOptions {
  /** Of another gpu node: the request goes on after it. */
  log?: readonly NodeBatch[] | undefined
  callContext?: CallContext | undefined
  /** Whom the request is for; requests without one are one tenant's. */
  tenant?: Tenant | undefined
  /** What is answered; only a runner with `allowReplay` takes it. Default: what the model says. */
  forced?: readonly ForcedBranch[] | undefined
  /** Aborted when nobody needs the request any more. */
  signal?: AbortSignal | undefined
}

/** One model, its engine and all requests on it. Does no networking. */
export class Runner {
  readonly model: string
  readonly checkpoint: ServedCheckpoint
  /** Branches that decode at the same time, over all requests. */
  readonly maxBranches: number
  /** Settles with the reason when the engine fails; after that the runner takes no more requests. */
  readonly failed: Promise<string>
  /** Of checkpoint, numeric types, device and grammar engine; in heartbeats, and as far as it matters in `accepted`. */
  readonly fingerprint: string
  /** Of answers that match no grammar: any node with the same model may continue them. */
  readonly #plainFingerprint: string
  readonly #prompts: Prompts
  readonly #engine: Engine
  readonly #grammars: ServedGrammars | undefined
  readonly #formats: AnswerFormats
  readonly #tools: ModelTools
  readonly #reasoning: ModelReasoning | undefined
  /** With the texts of the markers of reasoning that are tokens, and of those of tools, too. */
  readonly #reasoningBytes: TokenBytes
  readonly #toolBytes: TokenBytes
  readonly #allowReplay: boolean
  /** The checkpoint, with the context that the engine can hold. */
  readonly #defaults: RequestDefaults
  readonly #requests = new Map<number, RunningRequest>()
  readonly #tenants = new TenantNumbers()
  readonly #observers: RequestObserver[] = []
  readonly #pacing = new FramePacing((request) => this.#safely(request, () => request.flush()))
  #lastId = 0
  #failure: string | undefined
  #reportFailure: (reason: string) => void = () => {}

  private constructor(options: RunnerOptions, engine: Engine) {
    this.model = options.model
    this.checkpoint = options.checkpoint
    const { shape } = options.checkpoint
    const contextTokens = Math.min(shape.contextTokens, engine.info.contextTokens)
    this.#defaults = { ...options.checkpoint, shape: { ...shape, contextTokens } }
    this.maxBranches = options.maxBranches
    this.fingerprint = fingerprintOf(options.checkpoint, engine.info, options.openGrammars !== undefined)
    this.#plainFingerprint = fingerprintOf(options.checkpoint, engine.info, false)
    this.#allowReplay = options.allowReplay ?? false
    this.#prompts = options.prompts
    this.#tools = options.tools ?? UNTRAINED
    this.#reasoning = options.reasoning
    this.#reasoningBytes = withMarkers(options.prompts.bytes, options.reasoning?.tokens)
    this.#toolBytes = withMarkers(this.#reasoningBytes, this.#tools.tokens)
    this.#engine = engine
    this.#grammars = options.openGrammars?.((folder, compiled) => engine.loadGrammar(folder, compiled))
    this.#formats = new AnswerFormats({
      ...{ grammars: this.#grammars, prompts: options.prompts, model: options.model },
      ...{ tools: this.#tools.format, reasons: this.#reasoning !== undefined },
    })
    this.failed = new Promise((resolve) => {
      this.#reportFailure = resolve
    })
  }

  static async open(options: RunnerOptions): Promise<Runner> {
    // The engine needs the callback before the runner exists. It sends no events before the first request.
    let deliver: OnEvents = () => {}
    const opening = options.openEngine((rows, failure) => deliver(rows, failure))
    const engine = await opening.catch(async (error) => {
      await options.prompts.close()
      throw error
    })
    const runner = new Runner(options, engine)
    deliver = (rows, failure) => runner.#deliver(rows, failure)
    return runner
  }

  /** Adds an observer of all later requests. */
  observe(observer: RequestObserver): void {
    this.#observers.push(observer)
  }

  /**
   * Starts a request, or continues one after another gpu node's `log`. Settles when the engine has accepted it.
   * `publish` receives its batches: the first one with `accepted`, the last one with `done` or `error`. When `signal`
   * is aborted before that, while the prompt is being encoded, the request ends as one that was cancelled.
   * @throws AparError when the request is refused; then nothing is published.
   */
  async start(
    stream: string,
    request: GenerateRequest,
    publish: (batch: NodeBatch) => void,
    { log = [], callContext, tenant, forced = [], signal }: StartOptions = {},
  ): Promise<RequestHandle> {
    const arrivedAt = performance.now()
    try {
      this.#requireModel(request)
      requireSameModel(log, this.fingerprint)
      this.#requireForced(forced)
      const encoding = this.#encode(request, tenant, signal).then((ids) => {
        return { ids, begins: ids && answerStart(request, ids, this.#reasoningBytes, this.#reasoning) }
      })
      const { contextTokens } = this
      const format = this.#formats.of({ request, log, encoding, contextTokens })
      const [{ ids: prompt, begins }, { grammar, given }] = await Promise.all([encoding, format])
      const start = {
        stream,
        request,
        publish,
        log,
        callContext,
        tenant,
        forced,
        arrivedAt,
        prompt: prompt ?? new Int32Array(),
        // Members in parallel come behind reasoning that the prompt has closed.
        answerStart: given ? undefined : begins,
        grammar,
        given,
      }
      return prompt ? this.#start(start) : this.#startAborted(start)
    } catch (error) {
      const { code } = toAparError(error)
      for (const observer of this.#observers) {
        observer.refused?.(code)
        if (code === 'internal_error') observer.bug?.(stream, error)
      }
      throw error
    }
  }

  /** Answers a question about tokens, in turn with the prompts. @throws AparError */
  async answer(
    query: TokenQuery,
    options: Pick<StartOptions, 'tenant' | 'signal'>,
  ): Promise<GoodTokenAnswer> {
    this.#requireModel(query)
    return await this.#prompts.answer(query, { tenant: options.tenant?.id, signal: options.signal })
  }

  #requireModel(request: Pick<GenerateRequest, 'model'>): void {
    const { model } = this
    if (request.model !== model) {
      throw new AparError('model_not_found', `this gpu node serves ${model}, not ${request.model}`, {
        param: 'model',
      })
    }
  }

  /** @throws AparError */
  #requireForced(forced: readonly ForcedBranch[]): void {
    if (forced.length > 0 && !this.#allowReplay)
      throw new AparError('invalid_request', 'forced: this gpu node was started without --allow-replay', {
        param: 'forced',
      })
    const { vocabSize } = this.#defaults.shape
    for (const [branch, { tokens }] of forced.entries()) {
      const stray = tokens.find((id) => id >= vocabSize)
      if (stray === undefined) continue
      const param = `forced.${branch}.tokens`
      throw new AparError('invalid_request', `${param}: ${stray} is no token, the model has ${vocabSize}`, {
        param,
      })
    }
  }

  /** The prompt's token ids; undefined when nobody needs them any more. */
  async #encode(
    request: GenerateRequest,
    tenant: Tenant | undefined,
    signal: AbortSignal | undefined,
  ): Promise<Int32Array | undefined> {
    if (request.prompt_token_ids) return this.#checkedIds(request.prompt_token_ids)
    try {
      return await this.#prompts.encode(request, this.contextTokens - 1, { tenant: tenant?.id, signal })
    } catch (error) {
      if (signal?.aborted) return undefined
      throw error
    }
  }

  /** Whether answers can have a format. */
  get servesFormats(): boolean {
    return this.#grammars !== undefined
  }

  /** @throws AparError */
  #checkedIds(ids: readonly number[]): Int32Array {
    const { vocabSize } = this.#defaults.shape
    const stray = ids.findIndex((id) => id >= vocabSize)
    if (stray >= 0) {
      const message = `prompt_token_ids: ${ids[stray]} is no token, the model has ${vocabSize}`
      throw new AparError('invalid_request', message, { param: 'prompt_token_ids' })
    }
    const most = this.contextTokens - 1
    if (ids.length > most) throw promptTooLong(most, 'prompt', { tokens: ids.length })
    return Int32Array.from(ids)
  }

  #start(start: EncodedStart): RequestHandle {
    const { request, prompt, log, tenant, forced, grammar } = start
    const id = this.#nextId()
    const running = this.#open(id, start)
    const branches = log.length > 0 || start.given ? running.restored() : []
    if (branches.length > 0 && running.complete) {
      running.finishRestored()
      return running
    }
    try {
      // Stop strings end the content of such an answer, never its reasoning or the arguments of a call.
      const asked = request.tools || start.answerStart ? { ...request, stop: [] } : request
      const engineRequest = toEngineRequest(id, asked, prompt, this.#defaults, branches, grammar)
      this.#engine.submit({
        ...engineRequest,
        tenant: this.#tenants.toEngine(tenant),
        forced: forced.map(({ parent, tokens }) => ({ parent, tokens: Int32Array.from(tokens) })),
      })
    } catch (error) {
      throw error instanceof EngineError ? toRefusal(error) : error
    }
    this.#requests.set(id, running)
    running.begin()
    return running
  }

  /** A request that was cancelled before the engine heard of it ends with the engine's events for that. */
  #startAborted(start: EncodedStart): RequestHandle {
    const id = this.#nextId()
    const running = this.#open(id, start)
    running.begin()
    for (const branch of running.restored()) {
      if (branch.ended !== 0) continue
      running.handle(Int32Array.of(EVENT.BRANCH_END, id, branch.id, FINISH.ABORT, 0), 0, undefined)
    }
    running.handle(Int32Array.of(EVENT.FINISH, id, 0, FINISH.ABORT, 0), 0, undefined)
    running.flush()
    return running
  }

  #open(id: number, start: EncodedStart) {
    const { stream, request, publish, log, callContext, tenant, arrivedAt, prompt, given } = start
    const reasoning = start.answerStart
    return new RunningRequest({
      id,
      stream,
      model: this.model,
      // Members have no text around them that training data has lost.
      joints: given ? 'kept' : this.checkpoint.joints,
      fingerprint: start.grammar ? this.fingerprint : this.#plainFingerprint,
      promptTokens: prompt.length,
      returnedPrompt: request.return_prompt_token_ids ? prompt : undefined,
      promptScores:
        request.prompt_logprobs === undefined ? undefined : new PromptScores(prompt, this.#prompts.bytes),
      tokenCounts: request.token_counts,
      stop: request.stop ?? [],
      stopTokens: request.stop_token_ids ?? [],
      stopScope: request.stop_scope ?? 'branch',
      toolAnswer: needsParser(start) ? new ToolAnswer(stream, request, this.#tools) : undefined,
      reasoning: reasoning && {
        format: reasoning.format,
        start: reasoning.start === 'inside' ? 'inside' : 'before',
      },
      bytes: this.#bytesOf(start),
      // What continues a text begins with its own space.
      dropsLeadingSpace: this.#prompts.dropsLeadingSpace && !request.continue_final_message,
      tracedPrompt: request.trace ? prompt : undefined,
      engine: this.#engine,
      publish,
      watch: new RequestWatch(this.#observers, {
        stream,
        callContext,
        tenant: tenant?.id,
        moved: log.length > 0,
        promptTokens: prompt.length,
        arrivedAt,
      }),
      log,
      given,
    })
  }

  #bytesOf({ request, answerStart: reasoning }: EncodedStart): TokenBytes {
    if (request.tools) return this.#toolBytes
    return reasoning ? this.#reasoningBytes : this.#prompts.bytes
  }

  /** Of the engine; requests whose prompt is not encoded yet wait, too. */
  stats(): EngineStats {
    const stats = this.#engine.stats()
    return { ...stats, waitingRequests: stats.waitingRequests + this.#prompts.waiting }
  }

  get engineInfo(): Engine['info'] {
    return this.#engine.info
  }

  /** Tokens of the longest request, prompt and answer. */
  get contextTokens(): number {
    return this.#defaults.shape.contextTokens
  }

  get failure(): string | undefined {
    return this.#failure
  }

  /** Closes the engine, which aborts all requests; each still gets its last event. */
  async close(): Promise<void> {
    // In this order: a prompt that is still being encoded must not reach a closed engine.
    await this.#prompts.close()
    this.#grammars?.close()
    await this.#engine.close()
    this.#pacing.flushAll()
    for (const request of this.#requests.values()) {
      request.fail(new AparError('gpu_node_lost', 'the gpu node was shut down'))
    }
    this.#requests.clear()
  }

  #deliver(rows: Int32Array, failure: string | undefined): void {
    if (failure !== undefined && this.#failure === undefined) {
      this.#failure = failure
      this.#reportFailure(failure)
    }
    const touched = new Set<RunningRequest>()
    for (let row = 0; row + EVENT_WIDTH <= rows.length; row += EVENT_WIDTH) {
      const request = this.#requests.get(rows[row + 1] ?? 0)
      if (!request) continue
      this.#safely(request, () => request.handle(rows, row, failure))
      if (rows[row] === EVENT.FINISH) this.#requests.delete(rows[row + 1] ?? 0)
      touched.add(request)
    }
    this.#pacing.delivered(touched, this.#engine.stats().runningRequests)
  }

  /** An exception while handling one request must not end other requests. */
  #safely(request: RunningRequest, action: () => void): void {
    try {
      action()
    } catch (error) {
      for (const observer of this.#observers) observer.bug?.(request.stream, error)
      request.fail(error)
    }
  }

  #nextId(): number {
    do {
      this.#lastId = this.#lastId === MAX_REQUEST_ID ? 1 : this.#lastId + 1
    } while (this.#requests.has(this.#lastId))
    return this.#lastId
  }
}

/** Also where a format begins behind reasoning: its grammar then has strings as those of tools do (docs/adr/0069). */
function needsParser({ request, answerStart: reasoning }: EncodedStart): boolean {
  return request.tools !== undefined || (reasoning !== undefined && request.output_format !== undefined)
}

function toRefusal(error: EngineError): AparError {
  switch (error.code) {
    case 'queue_full':
      return new AparError('overloaded', 'this gpu node is full', { retryAfterSeconds: 1, cause: error })
    case 'request_too_large':
      return new AparError('context_length_exceeded', error.message, { cause: error })
    case 'invalid_request':
      return new AparError('invalid_request', error.message, { cause: error })
    case 'closed':
      return new AparError('overloaded', 'this gpu node is shutting down', {
        retryAfterSeconds: 5,
        cause: error,
      })
    default:
      return new AparError('engine_error', `the engine refused the request: ${error.message}`, {
        cause: error,
      })
  }
}
