import type { ChildProcess } from 'node:child_process'
import { serialize } from 'node:v8'
import { AparError } from '../../shared/errors.ts'
import { promptChars } from '../../shared/protocol/prompt-chars.ts'
import type { GoodTokenAnswer, TokenQuery } from '../../shared/protocol/token-query.ts'
import type { TokenizerFiles } from '../checkpoint/tokenizer-files.ts'
import {
  type Prompt,
  PromptProcess,
  type Ready,
  type ToWorker,
  type Worked,
  type WorkerSetup,
} from './prompt-process.ts'
import { PromptQueue, type QueuedPrompt } from './prompt-queue.ts'
import { type TokenBytes, tokenBytes } from './token-bytes.ts'
import { WaitingText } from './waiting-text.ts'

/** Longer prompts have a process of their own, so that a short one never waits for them. UTF-16 code units. */
const SHORT_PROMPT = 8 * 1024
/** What a prompt counts on top of its text. */
const PER_PROMPT = 1024

/**
 * The edge takes a node that neither accepts nor refuses a request within a minute for a broken one. So a prompt waits
 * at most this long, the start of a process included, and is then refused.
 */
const WAITING_LIMIT_MS = 20_000
/** Encoding takes at most 6 µs for a code unit on one core of 2024; a busy machine may be several times slower. */
const ENCODING_LIMIT_MS = 2_000
const ENCODING_LIMIT_MS_PER_UNIT = 0.05
const LONGEST_ENCODING_LIMIT_MS = 25_000

/** Where a runner gets the token ids of its prompts from. */
export type Prompts = Pick<
  PromptPool,
  'bytes' | 'dropsLeadingSpace' | 'waiting' | 'encode' | 'answer' | 'close'
>

export interface PromptPoolOptions {
  readonly files: TokenizerFiles
  /** Tokens that only the template may produce, in addition to those that the files show. */
  readonly controlIds: readonly number[]
  /** Rows of the embedding. */
  readonly vocabSize: number
  /** From {@link bootWorker}; it belongs to the pool then. */
  readonly booted?: ChildProcess | undefined
}

export interface EncodeOptions {
  /** Whom the prompt is for; prompts without one are one tenant's. */
  readonly tenant?: string | undefined
  /** Aborted when nobody needs the prompt any more. */
  readonly signal?: AbortSignal | undefined
}

const PROCESSES = 2
/** Measured: 44 MB with 500 pieces, 87 MB with 49,000 and their merges, beside pages that processes share. */
const PROCESS_BYTES = 44e6
const PIECE_BYTES = 880

/** About what the processes of a pool take of the memory, for a vocabulary of this size. */
export function poolBytes(vocabSize: number): number {
  return PROCESSES * (PROCESS_BYTES + PIECE_BYTES * vocabSize)
}

/** Encodes prompts in processes of their own, so that neither their length nor a checkpoint's template stops the node. */
export class PromptPool {
  readonly bytes: TokenBytes
  /** See {@link PromptEncoder}. */
  readonly dropsLeadingSpace: boolean
  readonly #short: Lane
  readonly #long: Lane
  readonly #text = new WaitingText()

  private constructor(
    bytes: TokenBytes,
    { dropsLeadingSpace }: Ready,
    short: PromptProcess,
    long: PromptProcess,
  ) {
    this.bytes = bytes
    this.dropsLeadingSpace = dropsLeadingSpace
    this.#short = new Lane(short)
    this.#long = new Lane(long)
  }

  /**
   * Loads the process for short prompts; that for long ones is loaded by {@link loadRest}, or when it is needed first.
   * @throws StartupError when tokenizer or template cannot be used; it names the file.
   */
  static async open({ files, controlIds, vocabSize, booted }: PromptPoolOptions): Promise<PromptPool> {
    const setup: WorkerSetup = { files: serialize(files), controlIds, vocabSize }
    const short = new PromptProcess(setup, { check: true, yields: false }, booted)
    const long = new PromptProcess(setup, { check: false, yields: true })
    try {
      // The bytes after what the caller does at the same time.
      const [ready, bytes] = await Promise.all([short.load(), Promise.resolve(files).then(tokenBytes)])
      return new PromptPool(bytes, ready, short, long)
    } catch (error) {
      await Promise.all([short.close(), long.close()])
      throw error
    }
  }

  /** Whoever needs it later gets its errors. */
  loadRest(): void {
    this.#long.load()
  }

  /** Prompts that wait or are being encoded. */
  get waiting(): number {
    return this.#text.prompts
  }

  /**
   * @param maxTokens a longer prompt is refused.
   * @throws AparError: of the prompt; `overloaded`; `request_timeout`; `connection_closed` when `signal` is aborted.
   */
  async encode(prompt: Prompt, maxTokens: number, options: EncodeOptions = {}): Promise<Int32Array> {
    const worked = await this.#run({ prompt, maxTokens }, unitsOf(prompt), options)
    if (worked.type !== 'encoded') throw new Error(`a prompt was ${worked.type}`)
    return worked.ids
  }

  /** As {@link encode}; the answer to a query may be about more tokens than a context has. */
  async answer(query: TokenQuery, options: EncodeOptions = {}): Promise<GoodTokenAnswer> {
    const worked = await this.#run({ query }, unitsOfQuery(query), options)
    if (worked.type !== 'answered') throw new Error(`a query was ${worked.type}`)
    return worked.answer
  }

  async #run(
    work: ToWorker,
    units: number,
    { tenant = '', signal = new AbortController().signal }: EncodeOptions,
  ): Promise<Worked> {
    this.#text.add(tenant, units)
    try {
      const lane = units <= SHORT_PROMPT ? this.#short : this.#long
      return await lane.run({ work, tenant, units, signal })
    } finally {
      this.#text.remove(tenant, units)
    }
  }

  async close(): Promise<void> {
    await Promise.all([this.#short.close(), this.#long.close()])
  }
}

function unitsOf(prompt: Pick<Prompt, 'messages' | 'tools'>): number {
  return PER_PROMPT + promptChars(prompt)
}

function unitsOfQuery(query: TokenQuery): number {
  if ('messages' in query) return unitsOf(query)
  return 'tokens' in query ? PER_PROMPT + query.tokens.length : PER_PROMPT
}

interface Job extends QueuedPrompt {
  readonly work: ToWorker
  readonly signal: AbortSignal
}

interface Waiting extends Job {
  readonly resolve: (worked: Worked) => void
  readonly reject: (error: unknown) => void
}

/** One process and the prompts that wait for it. */
class Lane {
  readonly #process: PromptProcess
  readonly #queue = new PromptQueue<Waiting>()
  #busy = false

  constructor(child: PromptProcess) {
    this.#process = child
  }

  load(): void {
    this.#process.load().catch(() => {})
  }

  run(job: Job): Promise<Worked> {
    return new Promise((resolve, reject) => {
      const { signal } = job
      const settle = () => {
        clearTimeout(timer)
        signal.removeEventListener('abort', cancel)
      }
      const fail = (error: unknown) => {
        settle()
        reject(error)
      }
      const succeed = (worked: Worked) => {
        settle()
        resolve(worked)
      }
      const waiting = { ...job, resolve: succeed, reject: fail }
      const cancel = () => {
        this.#queue.remove(waiting)
        fail(new AparError('connection_closed', 'the request was cancelled'))
      }
      const timer = setTimeout(() => {
        if (this.#queue.remove(waiting)) fail(waitedTooLong())
      }, WAITING_LIMIT_MS)
      if (signal.aborted) return cancel()
      signal.addEventListener('abort', cancel)
      this.#queue.add(waiting)
      void this.#work()
    })
  }

  async #work(): Promise<void> {
    if (this.#busy) return
    this.#busy = true
    while (this.#queue.size > 0) {
      const failure = await this.#process.load().then(
        () => undefined,
        (error: unknown) => ({ error }),
      )
      const job = this.#queue.take()
      if (failure) job?.reject(failure.error)
      else if (job) await this.#do(job)
    }
    this.#queue.take()
    this.#busy = false
  }

  async #do({ work, units, signal, resolve, reject }: Waiting): Promise<void> {
    const limitMs = Math.min(
      ENCODING_LIMIT_MS + units * ENCODING_LIMIT_MS_PER_UNIT,
      LONGEST_ENCODING_LIMIT_MS,
    )
    await this.#process.run(work, limitMs, signal).then(resolve, reject)
  }

  async close(): Promise<void> {
    await this.#process.close()
  }
}

function waitedTooLong(): AparError {
  return new AparError('overloaded', 'the prompts before this one take too long', { retryAfterSeconds: 5 })
}
