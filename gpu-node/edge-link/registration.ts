import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import type { Logger } from '../../shared/log.ts'
import { parseJson } from '../../shared/parse.ts'
import { type Heartbeat, Lease } from '../../shared/protocol/fleet.ts'
import { StartupError } from '../startup-error.ts'
import type { EdgeLink } from './edge-link.ts'
import { type HttpAnswer, httpRequest } from './http-request.ts'

const FIRST_RETRY_MS = 250
const LAST_RETRY_MS = 5_000
/**
 * Long, because a busy edge answers late, and a heartbeat without its answer does not renew the lease. Not
 * longer, because after a lost heartbeat there must be time for the next one within the lease
 * (edge/nodes/lease.ts: 3 s + 8 s < 12 s).
 */
const REQUEST_TIMEOUT_MS = 8_000

const Refusal = z.object({ error: z.object({ message: z.string(), code: z.string() }) })

export interface RegistrationOptions {
  /** The edge's address: `http://host:port` or `https://…`. */
  edgeUrl: string
  nodeId: string
  nodeSecret: string
  /** Called for every heartbeat. */
  heartbeat: () => Heartbeat
  /** Gets a line when the registration succeeds, is lost or is restored. */
  log: Logger
}

/**
 * Registers a gpu node that the edge can connect to: sends a heartbeat at once, then at the interval that the
 * edge asks for. A failed heartbeat is retried with exponential backoff.
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
    // Without a handler, a refusal would be an unhandled rejection for callers that do not await `registered`.
    promise.catch(() => {})
    this.#loop = this.#sendHeartbeats(resolve, reject)
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

  async sendHeartbeat(): Promise<void> {
    await this.#renewLease().catch(() => {})
  }

  /** Runs until `stop`. */
  async #sendHeartbeats(registered: () => void, refused: (error: Error) => void): Promise<void> {
    const { signal } = this.#stopped
    const { log, edgeUrl } = this.#options
    let successes = 0
    let failures = 0
    while (!signal.aborted) {
      let wait: number
      const begun = performance.now()
      try {
        const { heartbeat_ms } = await this.#renewLease()
        if (successes === 0 || failures > 0) log.info('registered', { edge: edgeUrl })
        successes++
        registered()
        failures = 0
        // Measured from the start of this heartbeat: a late answer does not delay the next one.
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

  async #renewLease(): Promise<Lease> {
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
    if (response.status !== 200) {
      throw new Error(`${this.#options.edgeUrl} answered ${response.status}${reasonIn(response)}`)
    }
    const lease = parseJson(Lease, response.body)
    this.#leaseEndsAt = performance.now() + lease.lease_ms
    return lease
  }

  async #call(method: 'PUT' | 'DELETE', heartbeat?: Heartbeat): Promise<HttpAnswer> {
    const { edgeUrl, nodeId, nodeSecret } = this.#options
    const timeout = AbortSignal.timeout(REQUEST_TIMEOUT_MS)
    const signal = method === 'PUT' ? AbortSignal.any([timeout, this.#stopped.signal]) : timeout
    try {
      return await httpRequest(new URL(`/internal/v1/nodes/${nodeId}`, edgeUrl), {
        method,
        headers: { authorization: `Bearer ${nodeSecret}`, 'content-type': 'application/json' },
        body: heartbeat && JSON.stringify(heartbeat),
        signal,
      })
    } catch (cause) {
      throw new Error(`${edgeUrl} cannot be reached`, { cause })
    }
  }
}

/** Message and code of the edge's error object; '' when the answer has none. */
function reasonIn({ body }: HttpAnswer): string {
  try {
    const { error } = parseJson(Refusal, body)
    return `: ${error.message} (${error.code})`
  } catch {
    return ''
  }
}

/** Promise.withResolvers, which Node 20 lacks. */
function withResolvers() {
  let resolve: () => void = () => {}
  let reject: (error: Error) => void = () => {}
  const promise = new Promise<void>((yes, no) => {
    resolve = yes
    reject = no
  })
  return { promise, resolve, reject }
}
