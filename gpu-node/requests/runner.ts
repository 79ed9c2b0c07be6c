import { createHash } from 'node:crypto'
import { AparError, toAparError } from '../../shared/errors.ts'
import { PROTOCOL_VERSION } from '../../shared/protocol/events.ts'
import type { CallContext, NodeBatch } from '../../shared/protocol/node.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import type { Checkpoint } from '../checkpoint/checkpoint.ts'
import type { Engine, EngineStats, OnEvents } from '../engine/engine.ts'
import { EngineError } from '../engine/engine-error.ts'
import { EVENT, EVENT_WIDTH } from '../engine/engine-events.ts'
import { toEngineRequest } from '../engine/engine-request.ts'
import type { PromptEncoder } from '../text/prompt-encoder.ts'
import { RunningRequest } from './request.ts'
import { type RequestObserver, RequestWatch } from './request-watch.ts'

const MAX_REQUEST_ID = 2 ** 31 - 1

/** Operations that callers may use on a running request. */
export type RequestHandle = Pick<RunningRequest, 'cancel' | 'cancelBranch' | 'fail'>

export interface RunnerOptions {
  /** What clients call the model. */
  model: string
  checkpoint: Checkpoint
  prompts: PromptEncoder
  maxBranches: number
  openEngine: (onEvents: OnEvents) => Promise<Engine>
}

/** One model, its engine and all requests on it. Does no networking. */
export class Runner {
  readonly model: string
  readonly checkpoint: Checkpoint
  /** Branches that decode at the same time, over all requests. */
  readonly maxBranches: number
  /** Settles with the reason when the engine fails; after that the runner takes no more requests. */
  readonly failed: Promise<string>
  /** Changes with anything that could change a greedy text. */
  readonly fingerprint: string
  readonly #prompts: PromptEncoder
  readonly #engine: Engine
  readonly #requests = new Map<number, RunningRequest>()
  readonly #observers: RequestObserver[] = []
  #lastId = 0
  #failure: string | undefined
  #reportFailure: (reason: string) => void = () => {}

  private constructor(options: RunnerOptions, engine: Engine) {
    this.model = options.model
    this.checkpoint = options.checkpoint
    this.maxBranches = options.maxBranches
    this.fingerprint = fingerprintOf(options.checkpoint, engine.info)
    this.#prompts = options.prompts
    this.#engine = engine
    this.failed = new Promise((resolve) => {
      this.#reportFailure = resolve
    })
  }

  static async open(options: RunnerOptions): Promise<Runner> {
    // The engine needs the callback before the runner exists. It sends no events before the first request.
    let deliver: OnEvents = () => {}
    const engine = await options.openEngine((rows, failure) => deliver(rows, failure))
    const runner = new Runner(options, engine)
    deliver = (rows, failure) => runner.#deliver(rows, failure)
    return runner
  }

  /** Adds an observer of all later requests. */
  observe(observer: RequestObserver): void {
    this.#observers.push(observer)
  }

  /**
   * Starts a request, or continues one after another gpu node's `log`. `publish` receives its batches: the first
   * one, with `accepted`, before this returns, and the last one with `done` or `error`.
   * @throws AparError when the request is refused; then nothing is published.
   */
  start(
    stream: string,
    request: GenerateRequest,
    publish: (batch: NodeBatch) => void,
    log: readonly NodeBatch[] = [],
    callContext?: CallContext,
  ): RequestHandle {
    try {
      return this.#start(stream, request, publish, log, callContext)
    } catch (error) {
      const { code } = toAparError(error)
      for (const observer of this.#observers) {
        observer.refused?.(code)
        if (code === 'internal_error') observer.bug?.(stream, error)
      }
      throw error
    }
  }

  #start(
    stream: string,
    request: GenerateRequest,
    publish: (batch: NodeBatch) => void,
    log: readonly NodeBatch[],
    callContext: CallContext | undefined,
  ): RequestHandle {
    const arrivedAt = performance.now()
    const { model } = this
    if (request.model !== model) {
      throw new AparError('model_not_found', `this gpu node serves ${model}, not ${request.model}`, {
        param: 'model',
      })
    }
    const { shape, joints } = this.checkpoint
    const maxPromptTokens = shape.contextTokens - 1
    const prompt = request.raw_prompt
      ? this.#prompts.encodeRaw(request.messages.map(({ content }) => content).join(''), maxPromptTokens)
      : this.#prompts.encode(request.messages, maxPromptTokens)
    const id = this.#nextId()
    const running = new RunningRequest({
      id,
      stream,
      model,
      joints,
      fingerprint: this.fingerprint,
      promptTokens: prompt.length,
      stop: request.stop ?? [],
      stopScope: request.stop_scope ?? 'branch',
      bytes: this.#prompts.bytes,
      dropsLeadingSpace: this.#prompts.dropsLeadingSpace,
      engine: this.#engine,
      publish,
      watch: new RequestWatch(this.#observers, {
        stream,
        callContext,
        moved: log.length > 0,
        promptTokens: prompt.length,
        arrivedAt,
      }),
      log,
    })
    const branches = log.length > 0 ? running.restored() : []
    if (branches.length > 0 && running.complete) {
      running.finishRestored()
      return running
    }
    try {
      this.#engine.submit(toEngineRequest(id, request, prompt, this.checkpoint, branches))
    } catch (error) {
      throw error instanceof EngineError ? toRefusal(error) : error
    }
    this.#requests.set(id, running)
    running.begin()
    return running
  }

  stats(): EngineStats {
    return this.#engine.stats()
  }

  get engineInfo(): Engine['info'] {
    return this.#engine.info
  }

  get failure(): string | undefined {
    return this.#failure
  }

  /** Closes the engine, which aborts all requests; each still gets its last event. */
  async close(): Promise<void> {
    await this.#engine.close()
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
    for (const request of touched) this.#safely(request, () => request.flush())
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

function fingerprintOf(
  { created, shape }: Checkpoint,
  { device, dtype, kvCacheDtype }: Engine['info'],
): string {
  const arithmetic = [device, dtype, kvCacheDtype]
  const hash = createHash('sha256').update(JSON.stringify([PROTOCOL_VERSION, created, shape, ...arithmetic]))
  return `fp_${hash.digest('hex').slice(0, 10)}`
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
