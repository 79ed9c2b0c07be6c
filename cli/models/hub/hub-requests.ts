import { setTimeout as sleep } from 'node:timers/promises'
import { UserError } from '../../explain.ts'
import { refusal, storeRefusal } from './refusals.ts'

export interface HubRequestsOptions {
  /** Without a slash at the end. */
  endpoint: string
  token: string | undefined
  /** The model that is asked for, for messages. */
  repo: string
  signal?: AbortSignal | undefined
  onWait?: (message: string) => void
  /** Before the first repetition, doubled for each further one. */
  retryDelayMs?: number | undefined
}

/** A failure after which the same request may succeed. */
export class Passing extends Error {
  /** What to tell the user when it does not. */
  readonly error: UserError
  readonly afterMs: number | undefined

  constructor(error: UserError, afterMs?: number) {
    super(error.message)
    this.error = error
    this.afterMs = afterMs
  }
}

const RETRIES = 5
const RETRY_DELAY_MS = 500
/** A hub that asks for more patience is not waited for. */
const LONGEST_WAIT_MS = 120_000
/** Until the headers of a response are there. */
const HEADERS_LIMIT_MS = 30_000

/** Requests to one hub. Only the hub itself gets the token, no host that it redirects to. */
export class HubRequests {
  readonly #options: HubRequestsOptions
  readonly #origin: string

  constructor(options: HubRequestsOptions) {
    this.#options = options
    this.#origin = new URL(options.endpoint).origin
  }

  /** For `@huggingface/hub`: as fetch(), but repeated after a passing failure, and a refusal is a UserError. */
  readonly fetch: typeof fetch = (input, init) =>
    this.repeat(async () => {
      const url = new URL(input instanceof Request ? input.url : input)
      return await this.send(url, new Headers(init?.headers))
    })

  /** One request. @throws Passing, or a UserError when the hub refuses it. */
  async send(url: URL, headers: Headers, signal?: AbortSignal): Promise<Response> {
    const { token, repo } = this.#options
    headers.delete('authorization')
    if (token !== undefined && url.origin === this.#origin) headers.set('authorization', `Bearer ${token}`)
    headers.set('user-agent', 'apar')
    const response = await this.#fetch(url, headers, signal)
    if (response.ok) return response
    await response.body?.cancel().catch(() => {})
    const { status } = response
    const from = new URL(response.url)
    if (from.origin !== this.#origin) {
      // Its address was signed for a short time: the hub makes a new one for the next attempt.
      throw new Passing(storeRefusal(from.host, status, repo), retryAfter(response))
    }
    const error = refusal(response, { repo, hasToken: token !== undefined })
    if (status === 408 || status === 429 || status >= 500) throw new Passing(error, retryAfter(response))
    throw error
  }

  /** Repeats what fails with {@link Passing}, at most five times without `progress` in between. */
  async repeat<T>(attempt: () => Promise<T>, progress: () => number = () => 0): Promise<T> {
    const { signal, onWait, retryDelayMs = RETRY_DELAY_MS } = this.#options
    let failures = 0
    let reached = progress()
    for (;;) {
      signal?.throwIfAborted()
      try {
        return await attempt()
      } catch (failure) {
        if (!(failure instanceof Passing)) throw failure
        failures = progress() > reached ? 1 : failures + 1
        reached = progress()
        const waitMs = failure.afterMs ?? retryDelayMs * 2 ** (failures - 1)
        if (failures > RETRIES || waitMs > LONGEST_WAIT_MS) throw failure.error
        onWait?.(`${failure.error.message}; trying again in ${Math.ceil(waitMs / 1000)} s`)
        await sleep(waitMs, undefined, signal && { signal })
      }
    }
  }

  async #fetch(url: URL, headers: Headers, own?: AbortSignal): Promise<Response> {
    const { signal } = this.#options
    const late = new AbortController()
    const timer = setTimeout(() => late.abort(), HEADERS_LIMIT_MS)
    const signals = [signal, own, late.signal].filter((one) => one !== undefined)
    try {
      // fetch() itself removes the token from a request that is redirected to another origin.
      return await fetch(url, { headers, signal: AbortSignal.any(signals) })
    } catch (cause) {
      signal?.throwIfAborted()
      const reason = late.signal.aborted ? `no answer in ${HEADERS_LIMIT_MS / 1000} s` : reasonOf(cause)
      const advice = 'check the network, and HF_ENDPOINT if it is set'
      throw new Passing(
        new UserError('hub_unreachable', `${url.host} cannot be reached (${reason}): ${advice}`),
      )
    } finally {
      clearTimeout(timer)
    }
  }
}

/** The code of the system's error: fetch() itself only says that it failed. */
export function reasonOf(error: unknown): string {
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error
  if (cause instanceof Error && 'code' in cause && typeof cause.code === 'string') return cause.code
  return cause instanceof Error ? cause.message : String(cause)
}

/** Milliseconds; undefined without the header. */
function retryAfter(response: Response): number | undefined {
  const text = response.headers.get('retry-after')
  if (text === null) return undefined
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now()
  return Number.isNaN(ms) ? undefined : Math.max(0, ms)
}
