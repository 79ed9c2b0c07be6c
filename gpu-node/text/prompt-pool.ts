import { serialize } from 'node:v8'
import { AparError } from '../../shared/errors.ts'
import type { TokenizerFiles } from '../checkpoint/tokenizer-files.ts'
import { type Prompt, PromptThread, type WorkerSetup } from './prompt-thread.ts'
import { type TokenBytes, tokenBytes } from './token-bytes.ts'

/** Longer prompts have threads of their own, so that a short one never waits for them. UTF-16 code units. */
const SHORT_PROMPT = 8 * 1024
/** Of all prompts that wait or are being encoded; beyond it requests are refused. UTF-16 code units. */
const MAX_WAITING = 32 * 1024 * 1024
/** What a prompt counts on top of its text. */
const PER_PROMPT = 1024

/** Encoding takes at most 6 µs for a code unit on one core of 2024; a busy machine may be several times slower. */
const LIMIT_MS = 2_000
const LIMIT_MS_PER_UNIT = 0.05
/**
 * A waiting prompt goes before one that came earlier and is so much longer that it would take longer to encode than the
 * time between the two. So no prompt waits for ever.
 */
const AGEING_MS_PER_UNIT = 0.01

/** Where a runner gets the token ids of its prompts from. */
export type Prompts = Pick<PromptPool, 'bytes' | 'dropsLeadingSpace' | 'encode' | 'close'>

export interface PromptPoolOptions {
  readonly files: TokenizerFiles
  /** Tokens that only the template may produce, in addition to those that the files show. */
  readonly controlIds: readonly number[]
  /** Rows of the embedding. */
  readonly vocabSize: number
}

/** Encodes prompts in threads of their own, so that neither their length nor a checkpoint's template stops the node. */
export class PromptPool {
  readonly bytes: TokenBytes
  /** See {@link PromptEncoder}. */
  readonly dropsLeadingSpace: boolean
  readonly #short: Lane
  readonly #long: Lane
  #waiting = 0

  private constructor(
    bytes: TokenBytes,
    dropsLeadingSpace: boolean,
    short: PromptThread,
    long: PromptThread,
  ) {
    this.bytes = bytes
    this.dropsLeadingSpace = dropsLeadingSpace
    this.#short = new Lane(short)
    this.#long = new Lane(long)
  }

  /** @throws StartupError when tokenizer or template cannot be used; it names the file. */
  static async open({ files, controlIds, vocabSize }: PromptPoolOptions): Promise<PromptPool> {
    const bytes = tokenBytes(files.tokenizer)
    const setup: WorkerSetup = { files: shared(serialize(files)), controlIds, vocabSize }
    const short = new PromptThread(setup, true)
    try {
      const { dropsLeadingSpace } = await short.load()
      const long = new PromptThread(setup, false)
      void long.load()
      return new PromptPool(bytes, dropsLeadingSpace, short, long)
    } catch (error) {
      await short.close()
      throw error
    }
  }

  /**
   * @param maxTokens a longer prompt is refused.
   * @throws AparError: of the prompt; `overloaded`; `request_timeout`; `connection_closed` when `signal` is aborted.
   */
  async encode(
    prompt: Prompt,
    maxTokens: number,
    signal = new AbortController().signal,
  ): Promise<Int32Array> {
    const units = prompt.messages.reduce((sum, { content }) => sum + content.length, PER_PROMPT)
    if (this.#waiting > 0 && this.#waiting + units > MAX_WAITING) {
      throw new AparError('overloaded', 'too many prompts wait to be encoded', { retryAfterSeconds: 1 })
    }
    this.#waiting += units
    try {
      const lane = units <= SHORT_PROMPT ? this.#short : this.#long
      return await lane.encode({ prompt, maxTokens, units, signal })
    } finally {
      this.#waiting -= units
    }
  }

  async close(): Promise<void> {
    await Promise.all([this.#short.close(), this.#long.close()])
  }
}

interface Job {
  readonly prompt: Prompt
  readonly maxTokens: number
  readonly units: number
  readonly signal: AbortSignal
}

interface Waiting extends Job {
  readonly dueAt: number
  readonly resolve: (ids: Int32Array) => void
  readonly reject: (error: unknown) => void
}

/** One thread and the prompts that wait for it. */
class Lane {
  readonly #thread: PromptThread
  #waiting: Waiting[] = []
  #busy = false

  constructor(thread: PromptThread) {
    this.#thread = thread
  }

  encode(job: Job): Promise<Int32Array> {
    return new Promise((resolve, reject) => {
      const dueAt = performance.now() + job.units * AGEING_MS_PER_UNIT
      const waiting = { ...job, dueAt, resolve, reject }
      const leave = () => {
        this.#waiting = this.#waiting.filter((other) => other !== waiting)
        reject(new AparError('connection_closed', 'the request was cancelled'))
      }
      if (job.signal.aborted) return leave()
      job.signal.addEventListener('abort', leave, { once: true })
      this.#waiting.push(waiting)
      void this.#run()
    })
  }

  async #run(): Promise<void> {
    if (this.#busy) return
    this.#busy = true
    for (let job = this.#take(); job; job = this.#take()) {
      const { prompt, maxTokens, units, signal, resolve, reject } = job
      const limitMs = LIMIT_MS + units * LIMIT_MS_PER_UNIT
      await this.#thread.encode(prompt, maxTokens, limitMs, signal).then(resolve, reject)
    }
    this.#busy = false
  }

  #take(): Waiting | undefined {
    const [first, ...others] = this.#waiting
    if (!first) return undefined
    const next = others.reduce((best, job) => (job.dueAt < best.dueAt ? job : best), first)
    this.#waiting = this.#waiting.filter((job) => job !== next)
    return next
  }

  async close(): Promise<void> {
    await this.#thread.close()
  }
}

function shared(bytes: Uint8Array): SharedArrayBuffer {
  const buffer = new SharedArrayBuffer(bytes.length)
  new Uint8Array(buffer).set(bytes)
  return buffer
}
