import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { Socket } from 'node:net'
import { join } from 'node:path'
import { AparError, type ErrorCode } from '../../shared/errors.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import type { GoodTokenAnswer, TokenQuery } from '../../shared/protocol/token-query.ts'
import { packageRoot } from '../package-root.ts'
import { StartupError, type StartupErrorCode } from '../startup-error.ts'

/** Built by cli/setup/bundle.mjs. */
const WORKER = join(packageRoot, 'dist/prompt-worker.js')

/** For the tokenizer's tables and the longest prompt; beyond it the process aborts, and the node goes on. */
const MAX_HEAP_MB = 2048
/** Until the process says what it does. */
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
  /** TokenizerFiles, serialised once for all processes. */
  readonly files: Uint8Array
  readonly controlIds: readonly number[]
  readonly vocabSize: number
}

/** What a process is for. */
export interface ProcessRole {
  /** Whether to check the tokenizer's patterns, too, when it is loaded first. */
  readonly check: boolean
  /** Whether its prompts may take seconds: event loop and engine come first where there are few cores. */
  readonly yields: boolean
}

/** The process's first message. */
export interface FirstMessage extends WorkerSetup, ProcessRole {}

/** Work for the process: a prompt to encode, or a query to answer. */
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
  /** A bug, which ends the process. */
  | { readonly type: 'crashed'; readonly stack: string }

export interface Ready {
  readonly dropsLeadingSpace: boolean
}

interface Running {
  readonly resolve: (worked: Worked) => void
  readonly reject: (error: unknown) => void
}

/**
 * A process that waits for its first message. It does not keep this one alive, and ends with it: the system closes its
 * standard input then. No thread of this process: V8 aborts the whole process where a thread outgrows its memory by more
 * than a little at once.
 */
export function bootWorker(heapMb = MAX_HEAP_MB): ChildProcess {
  const child = fork(WORKER, {
    execArgv: [`--max-old-space-size=${heapMb}`],
    serialization: 'advanced',
    stdio: ['pipe', 'ignore', 'ignore', 'ipc'],
  })
  // Of a process that ends at this moment.
  child.stdin?.on('error', () => {})
  unref(child)
  return child
}

/** Ends it at once. */
export async function endWorker(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.ref()
  child.kill('SIGKILL')
  await exited
}

/** A process with a tokenizer of its own, which does one piece of work at a time. */
export class PromptProcess {
  readonly #setup: WorkerSetup
  #booted: ChildProcess | undefined
  #child: ChildProcess | undefined
  #ready: Promise<Ready> | undefined
  #running: Running | undefined
  #role: ProcessRole
  #closed = false

  /** `booted`: from {@link bootWorker}, for the first start. */
  constructor(setup: WorkerSetup, role: ProcessRole, booted?: ChildProcess) {
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
   * @param limitMs after this time the process is ended, and another one takes its place; soon after `signal`, too.
   * @throws AparError of the prompt, or `request_timeout`.
   */
  async run(work: ToWorker, limitMs: number, signal: AbortSignal): Promise<Worked> {
    const child = this.#child
    if (!child) throw this.#closed ? shuttingDown() : hasEnded()
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
        child.send(work, ignoreFailure)
      })
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', hurry)
      this.#running = undefined
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    const children = [this.#child, this.#booted]
    this.#end(shuttingDown())
    await Promise.all(children.map((child) => child && endWorker(child)))
  }

  #start(): Promise<Ready> {
    const child = this.#booted ?? bootWorker()
    this.#booted = undefined
    child.ref()
    child.channel?.ref()
    this.#child = child
    const ready = new Promise<Ready>((resolve, reject) => {
      const watchdog = new Watchdog(
        'starting the process that encodes prompts',
        STARTING_LIMIT_MS,
        (error) => {
          reject(error)
          this.#end(error)
        },
      )
      const lost = (error: Error, atStart = error) => {
        watchdog.stop()
        reject(atStart)
        if (this.#child === child) this.#end(error)
      }
      child.on('message', (message: FromWorker) => {
        if (this.#child !== child) return
        if (message.type === 'loading') watchdog.restart(message.step, message.limitMs)
        else if (message.type === 'encoded' || message.type === 'answered') this.#running?.resolve(message)
        else if (message.type === 'failed')
          this.#running?.reject(new AparError(message.code, message.message, { param: message.param }))
        else if (message.type === 'crashed')
          lost(new Error(`the process that encodes prompts: ${message.stack}`))
        else {
          watchdog.stop()
          if (message.type === 'ready') {
            this.#role = { ...this.#role, check: false }
            resolve(message)
          } else reject(new StartupError(message.code, message.message))
          unref(child)
        }
      })
      child.on('error', (error) => lost(error))
      // By a signal that it did not get from here it ends when it has no memory left.
      child.on('exit', (code, signal) =>
        signal ? lost(tooLarge(), tooLargeAtStart()) : lost(new Error(`${hasEnded().message}: ${code}`)),
      )
    })
    // Whoever needs the process gets the error from `load`.
    ready.catch(() => {})
    child.send({ ...this.#setup, ...this.#role } satisfies FirstMessage, ignoreFailure)
    return ready
  }

  /** Ends the process; the prompt that it encodes fails, and the next one gets another process. */
  #end(error: Error): void {
    if (this.#child) void endWorker(this.#child)
    this.#child = undefined
    this.#ready = undefined
    this.#running?.reject(error)
  }
}

/** An idle process does not keep this one alive. */
function unref(child: ChildProcess): void {
  child.unref()
  child.channel?.unref()
  if (child.stdin instanceof Socket) child.stdin.unref()
}

/** Of a message: the process has ended, and says so by its event. */
function ignoreFailure(): void {}

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

function shuttingDown(): AparError {
  return new AparError('overloaded', 'this gpu node is shutting down', { retryAfterSeconds: 1 })
}

function hasEnded(): AparError {
  return new AparError('overloaded', 'the process that encodes prompts has ended', { retryAfterSeconds: 1 })
}

function tooLargeAtStart(): StartupError {
  const message = 'its tokenizer or its chat template needs too much memory'
  return new StartupError('unsupported_checkpoint', message)
}

function tooLarge(): AparError {
  const message = 'messages: the prompt needs too much memory to be encoded'
  return new AparError('invalid_request', message, { param: 'messages' })
}
