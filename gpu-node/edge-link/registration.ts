import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import type { Logger } from '../../shared/log.ts'
import { parse } from '../../shared/parse.ts'
import { type Heartbeat, Lease } from '../../shared/protocol/fleet.ts'
import { StartupError } from '../startup-error.ts'
import type { EdgeLink } from './edge-link.ts'

const FIRST_RETRY_MS = 250
const LAST_RETRY_MS = 5_000
/**
 * A busy edge answers late, not never, and a beat that was given up renews no lease: so long, and not longer, since after
 * a beat that was lost another one has to come before the lease ends (edge/nodes/fleet.ts: 5 s + 8 s < 15 s).
 */
const REQUEST_TIMEOUT_MS = 8_000

const Refusal = z.object({ error: z.object({ message: z.string(), code: z.string() }) })

export interface RegistrationOptions {
  /** The edge's address: `http://host:port` or `https://…`. */
  edgeUrl: string
  nodeId: string
  nodeSecret: string
  /** Asked before every beat. */
  heartbeat: () => Heartbeat
  /** Hears of changes: registered, lost, found again. */
  log: Logger
}

/**
 * Keeps a gpu node known to the edge: beats at once, then as often as the lease asks; a beat that fails is tried
 * again, waiting longer each time.
 */
export class Registration implements EdgeLink {
  readonly registered: Promise<void>
  readonly #options: RegistrationOptions
  readonly #stopped = new AbortController()
  readonly #loop: Promise<void>
  #leaseEndsAt = 0

  constructor(options: RegistrationOptions) {
    this.#options = options
    const { promise, resolve, reject } = withResolvers()
    this.registered = promise
    // Whoever does not wait for the promise hears of the refusal through the log.
    promise.catch(() => {})
    this.#loop = this.#beatUntilStopped(resolve, reject)
  }

  get holdsLease(): boolean {
    return performance.now() < this.#leaseEndsAt
  }

  async stop(): Promise<void> {
    this.#stopped.abort()
    await this.#loop
    this.#leaseEndsAt = 0
    await this.#call('DELETE').catch(() => {})
  }

  async beatNow(): Promise<void> {
    await this.#beat().catch(() => {})
  }

  async #beatUntilStopped(registered: () => void, refused: (error: Error) => void): Promise<void> {
    const { signal } = this.#stopped
    const { log, edgeUrl } = this.#options
    let beats = 0
    let failures = 0
    while (!signal.aborted) {
      let wait: number
      const begun = performance.now()
      try {
        const { heartbeat_ms } = await this.#beat()
        if (beats === 0 || failures > 0) log.info('registered', { edge: edgeUrl })
        beats++
        registered()
        failures = 0
        // From beat to beat: an answer that was late delays no other beat.
        wait = Math.max(0, heartbeat_ms - (performance.now() - begun))
      } catch (error) {
        if (signal.aborted) return
        if (error instanceof StartupError) refused(error)
        failures++
        if (failures === 1) {
          const reason = error instanceof Error ? error.message : String(error)
          log.warn('not registered', { edge: edgeUrl, reason })
        }
        wait = Math.min(FIRST_RETRY_MS * 2 ** (failures - 1), LAST_RETRY_MS)
      }
      await sleep(wait, undefined, { signal }).catch(() => {})
    }
  }

  async #beat(): Promise<Lease> {
    const response = await this.#call('PUT', this.#options.heartbeat())
    if (response.status === 401) {
      throw new StartupError('edge_refused', `${this.#options.edgeUrl} does not accept this node secret`)
    }
    if (response.status === 403) {
      throw new StartupError(
        'edge_refused',
        `${this.#options.edgeUrl} does not connect to this address: see NODE_HOSTS`,
      )
    }
    if (!response.ok) {
      throw new Error(`${this.#options.edgeUrl} answered ${response.status}${await reasonIn(response)}`)
    }
    const lease = parse(Lease, await response.json())
    this.#leaseEndsAt = performance.now() + lease.lease_ms
    return lease
  }

  async #call(method: 'PUT' | 'DELETE', heartbeat?: Heartbeat): Promise<Response> {
    const { edgeUrl, nodeId, nodeSecret } = this.#options
    const timeout = AbortSignal.timeout(REQUEST_TIMEOUT_MS)
    const signal = method === 'PUT' ? AbortSignal.any([timeout, this.#stopped.signal]) : timeout
    try {
      return await fetch(new URL(`/internal/v1/nodes/${nodeId}`, edgeUrl), {
        method,
        headers: { authorization: `Bearer ${nodeSecret}`, 'content-type': 'application/json' },
        body: heartbeat ? JSON.stringify(heartbeat) : null,
        signal,
      })
    } catch (cause) {
      throw new Error(`${edgeUrl} cannot be reached`, { cause })
    }
  }
}

/** What the edge says in its error object; nothing when something else answered. */
async function reasonIn(response: Response): Promise<string> {
  const body = Refusal.safeParse(await response.json().catch(() => undefined))
  return body.success ? `: ${body.data.error.message} (${body.data.error.code})` : ''
}

/** Promise.withResolvers of later Nodes. */
function withResolvers() {
  let resolve: () => void = () => {}
  let reject: (error: Error) => void = () => {}
  const promise = new Promise<void>((yes, no) => {
    resolve = yes
    reject = no
  })
  return { promise, resolve, reject }
}
