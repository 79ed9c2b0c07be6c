import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { AparError, type ErrorCode } from '../../shared/errors.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import type { GoodTokenAnswer, TokenQuery } from '../../shared/protocol/token-query.ts'
import { packageRoot } from '../package-root.ts'
import { StartupError, type StartupErrorCode } from '../startup-error.ts'

/** Built by cli/setup/bundle.mjs. */
const WORKER = join(packageRoot, 'dist/prompt-worker.js')

/** For the tokenizer's tables and the longest prompt; beyond it the thread ends, and the node goes on. */
const MAX_HEAP_MB = 2048
/** Until the thread says what it does. */
const STARTING_LIMIT_MS = 60_000
/** What is left of the time for a prompt that nobody waits for any more. */
const CANCELLED_LIMIT_MS = 500

/** The part of a request that becomes its prompt. */
export type Prompt = Pick<
  GenerateRequest,
  | 'messages'
  | 'tools'
  | 'raw_prompt'
  | 'add_generation_prompt'
  | 'continue_final_message'
  | 'chat_template_kwargs'
>

export interface WorkerSetup {
  /** TokenizerFiles, serialised once for all threads. */
  readonly files: SharedArrayBuffer
  readonly controlIds: readonly number[]
  readonly vocabSize: number
}

/** What a thread is for. */
export interface ThreadRole {
  /** Whether to check the tokenizer's patterns, too, when it is loaded first. */
  readonly check: boolean
  /** Whether its prompts may take seconds: event loop and engine come first where there are few cores. */
  readonly yields: boolean
}

/** The thread's first message. */
export interface FirstMessage extends WorkerSetup, ThreadRole {}

/** Work for the thread: a prompt to encode, or a query to answer. */
export type ToWorker =
  | { readonly prompt: Prompt; readonly maxTokens: number }
  | { readonly query: TokenQuery }

/** What becomes of it. */
export type Worked =
  | { readonly type: 'encoded'; readonly ids: Int32Array }
  | { readonly type: 'answered'; readonly answer: GoodTokenAnswer }

export type FromWorker =
  | { readonly type: 'loading'; readonly step: string; readonly limitMs: number }
  | ({ readonly type: 'ready' } & Ready)
  | { readonly type: 'refused'; readonly code: StartupErrorCode; readonly message: string }
  | Worked
  | {
      readonly type: 'failed'
      readonly code: ErrorCode
      readonly message: string
      readonly param: string | undefined
    }

export interface Ready {
  readonly dropsLeadingSpace: boolean
}

interface Running {
  readonly resolve: (worked: Worked) => void
  readonly reject: (error: unknown) => void
}

/** A thread that waits for its first message; it does not keep the process alive. */
export function bootWorker(): Worker {
  const worker = new Worker(WORKER, { resourceLimits: { maxOldGenerationSizeMb: MAX_HEAP_MB } })
  worker.unref()
  return worker
}

/** A worker thread with a tokenizer of its own, which does one piece of work at a time. */
export class PromptThread {
  readonly #setup: WorkerSetup
  #booted: Worker | undefined
  #worker: Worker | undefined
  #ready: Promise<Ready> | undefined
  #running: Running | undefined
  #role: ThreadRole
  #closed = false

  /** `booted`: from {@link bootWorker}, for the first start. */
  constructor(setup: WorkerSetup, role: ThreadRole, booted?: Worker) {
    this.#setup = setup
    this.#role = role
    this.#booted = booted
  }

  /** Settles when the tokenizer is loaded. @throws StartupError that names the file and what is wrong with it. */
  load(): Promise<Ready> {
    if (this.#closed) return Promise.reject(shuttingDown())
    this.#ready ??= this.#start()
    return this.#ready.catch((error) => {
      throw this.#closed ? shuttingDown() : error
    })
  }

  /**
   * Call it when {@link load} has settled.
   * @param limitMs after this time the thread is ended, and another one takes its place; soon after `signal`, too.
   * @throws AparError of the prompt, or `request_timeout`.
   */
  async run(work: ToWorker, limitMs: number, signal: AbortSignal): Promise<Worked> {
    const worker = this.#worker
    if (!worker) throw this.#closed ? shuttingDown() : hasEnded()
    let timer: NodeJS.Timeout | undefined
    const end = () => {
      const message = `messages: the prompt could not be encoded within ${(limitMs / 1000).toFixed(1)} s`
      this.#end(new AparError('request_timeout', message, { param: 'messages' }))
      // A short prompt should not have to wait for it.
      if (!this.#closed) this.load().catch(() => {})
    }
    const hurry = () => {
      clearTimeout(timer)
      timer = setTimeout(end, Math.min(limitMs, CANCELLED_LIMIT_MS))
    }
    try {
      return await new Promise<Worked>((resolve, reject) => {
        this.#running = { resolve, reject }
        timer = setTimeout(end, limitMs)
        signal.addEventListener('abort', hurry)
        if (signal.aborted) hurry()
        worker.postMessage(work)
      })
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', hurry)
      this.#running = undefined
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    const worker = this.#worker
    this.#end(shuttingDown())
    await Promise.all([worker?.terminate(), this.#booted?.terminate()])
  }

  #start(): Promise<Ready> {
    const worker = this.#booted ?? bootWorker()
    this.#booted = undefined
    worker.ref()
    worker.postMessage({ ...this.#setup, ...this.#role } satisfies FirstMessage)
    this.#worker = worker
    const ready = new Promise<Ready>((resolve, reject) => {
      const watchdog = new Watchdog('starting a thread', STARTING_LIMIT_MS, (error) => {
        reject(error)
        this.#end(error)
      })
      worker.on('message', (message: FromWorker) => {
        if (this.#worker !== worker) return
        if (message.type === 'loading') watchdog.restart(message.step, message.limitMs)
        else if (message.type === 'encoded' || message.type === 'answered') this.#running?.resolve(message)
        else if (message.type === 'failed')
          this.#running?.reject(new AparError(message.code, message.message, { param: message.param }))
        else {
          watchdog.stop()
          if (message.type === 'ready') {
            this.#role = { ...this.#role, check: false }
            resolve(message)
          } else reject(new StartupError(message.code, message.message))
          // An idle thread does not keep the process alive.
          worker.unref()
        }
      })
      const lost = (error: Error) => {
        watchdog.stop()
        reject(error)
        if (this.#worker === worker) this.#end(isOutOfMemory(error) ? tooLarge() : error)
      }
      worker.on('error', lost)
      worker.on('exit', () => lost(new Error('the thread that encodes prompts has ended')))
    })
    // Whoever needs the thread gets the error from `load`.
    ready.catch(() => {})
    return ready
  }

  /** Ends the worker; the prompt that it encodes fails, and the next one gets another worker. */
  #end(error: Error): void {
    void this.#worker?.terminate()
    this.#worker = undefined
    this.#ready = undefined
    this.#running?.reject(error)
  }
}

/** Limits the time of each step of loading. */
class Watchdog {
  readonly #onLate: (error: StartupError) => void
  #timer: NodeJS.Timeout | undefined

  constructor(step: string, limitMs: number, onLate: (error: StartupError) => void) {
    this.#onLate = onLate
    this.restart(step, limitMs)
  }

  restart(step: string, limitMs: number): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      this.#onLate(new StartupError('unsupported_checkpoint', `${step} takes more than ${limitMs / 1000} s`))
    }, limitMs)
  }

  stop(): void {
    clearTimeout(this.#timer)
  }
}

function isOutOfMemory(error: Error): boolean {
  return 'code' in error && error.code === 'ERR_WORKER_OUT_OF_MEMORY'
}

function shuttingDown(): AparError {
  return new AparError('overloaded', 'this gpu node is shutting down', { retryAfterSeconds: 1 })
}

function hasEnded(): AparError {
  return new AparError('overloaded', 'the thread that encodes prompts has ended', { retryAfterSeconds: 1 })
}

function tooLarge(): AparError {
  const message = 'messages: the prompt needs too much memory to be encoded'
  return new AparError('invalid_request', message, { param: 'messages' })
}
