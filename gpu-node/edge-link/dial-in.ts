import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from '../../shared/log.ts'
import type { Heartbeat, Lease } from '../../shared/protocol/fleet.ts'
import type { RequestSocket } from '../requests/request-socket.ts'
import { StartupError } from '../startup-error.ts'
import { ControlSocket, HandshakeRefused } from './control-socket.ts'
import type { EdgeLink } from './edge-link.ts'

/** The first retry is fast: if the node does not reconnect soon, the edge moves its streams. */
const FAST_RETRY_MS = 100
const FIRST_RETRY_MS = 250
const LAST_RETRY_MS = 5_000
/** The edge sends its values with the first lease (edge/nodes/lease.ts: 3 s and 12 s). These apply until then. */
const INITIAL_IDLE_TIMEOUT_MS = 10_000
const INITIAL_HEARTBEAT_MS = 5_000

export interface DialInOptions {
  /** The edge's address: `http://host:port` or `https://…`. */
  edgeUrl: string
  nodeId: string
  nodeSecret: string
  /** Called for every heartbeat. */
  heartbeat: () => Heartbeat
  /** Serves one stream. */
  serve: (channel: RequestSocket) => void
  log: Logger
}

/**
 * Registers a gpu node that the edge cannot connect to: the node opens one socket to the edge, which carries its
 * heartbeats and its streams. A lost socket is reopened with exponential backoff; running streams continue
 * meanwhile.
 */
export class DialIn implements EdgeLink {
  readonly registered: Promise<void>
  readonly #options: DialInOptions
  readonly #stopped = new AbortController()
  readonly #loop: Promise<void>
  #control: ControlSocket | undefined
  #registered: () => void = () => {}
  #disconnected = false
  #failures = 0
  #leaseEndsAt = 0
  #heartbeatMs = INITIAL_HEARTBEAT_MS
  #nextHeartbeat: ReturnType<typeof setTimeout> | undefined
  #idleTimer: ReturnType<typeof setTimeout> | undefined

  constructor(options: DialInOptions) {
    this.#options = options
    let refused: (error: Error) => void = () => {}
    this.registered = new Promise((resolve, reject) => {
      this.#registered = resolve
      refused = reject
    })
    // Without a handler, a refusal would be an unhandled rejection for callers that do not await `registered`.
    this.registered.catch(() => {})
    this.#loop = this.#dialUntilStopped(refused)
  }

  get holdsLease(): boolean {
    return performance.now() < this.#leaseEndsAt
  }

  async sendHeartbeat(): Promise<void> {
    this.#sendHeartbeat()
  }

  async stop(): Promise<void> {
    this.#stopped.abort()
    await this.#control?.close()
    await this.#loop
    this.#leaseEndsAt = 0
  }

  async #dialUntilStopped(refused: (error: Error) => void): Promise<void> {
    const { signal } = this.#stopped
    while (!signal.aborted) {
      let reason: string
      try {
        reason = await this.#connection()
      } catch (error) {
        if (isRefusal(error)) {
          refused(
            new StartupError('edge_refused', `${this.#options.edgeUrl} does not accept this node secret`),
          )
        }
        reason = error instanceof Error ? error.message : String(error)
      }
      if (signal.aborted) return
      if (!this.#disconnected)
        this.#options.log.warn('not registered', { edge: this.#options.edgeUrl, reason })
      this.#disconnected = true
      const wait =
        this.#failures === 0
          ? FAST_RETRY_MS
          : Math.min(FIRST_RETRY_MS * 2 ** (this.#failures - 1), LAST_RETRY_MS)
      this.#failures++
      // Jitter: after a restart of the edge all its nodes reconnect.
      await sleep(wait * (0.5 + Math.random() / 2), undefined, { signal }).catch(() => {})
    }
  }

  /** Runs one connection; settles with the reason when it has closed. @throws Error when it could not be opened. */
  async #connection(): Promise<string> {
    const { edgeUrl, nodeId, nodeSecret, serve } = this.#options
    const url = new URL(`/internal/v1/nodes/${nodeId}/socket`, edgeUrl.replace(/^http/, 'ws')).href
    let closed: (reason: string) => void = () => {}
    const closing = new Promise<string>((resolve) => {
      closed = resolve
    })
    const control = await ControlSocket.open({
      url,
      nodeSecret,
      serve,
      onMessage: () => this.#idleTimer?.refresh(),
      onLease: (lease) => this.#onLease(lease),
      onClose: (reason) => closed(reason),
      log: this.#options.log,
    })
    this.#control = control
    if (this.#stopped.signal.aborted) await control.close()
    this.#restartIdleTimer(INITIAL_IDLE_TIMEOUT_MS)
    this.#sendHeartbeat()
    try {
      return await closing
    } finally {
      this.#control = undefined
      clearTimeout(this.#nextHeartbeat)
      clearTimeout(this.#idleTimer)
    }
  }

  #onLease({ heartbeat_ms, lease_ms }: Lease): void {
    const first = this.#leaseEndsAt === 0
    this.#leaseEndsAt = performance.now() + lease_ms
    this.#failures = 0
    if (this.#disconnected || first) this.#options.log.info('registered', { edge: this.#options.edgeUrl })
    this.#disconnected = false
    this.#registered()
    this.#restartIdleTimer(lease_ms)
    if (heartbeat_ms === this.#heartbeatMs) return
    this.#heartbeatMs = heartbeat_ms
    this.#scheduleNextHeartbeat()
  }

  #sendHeartbeat(): void {
    if (!this.#control) return
    // Scheduled without waiting for the answer, which may be lost: then only another heartbeat renews the lease.
    this.#scheduleNextHeartbeat()
    this.#control.sendHeartbeat(this.#options.heartbeat())
  }

  #scheduleNextHeartbeat(): void {
    clearTimeout(this.#nextHeartbeat)
    this.#nextHeartbeat = setTimeout(() => this.#sendHeartbeat(), this.#heartbeatMs)
  }

  /**
   * Closes the socket after `limitMs` without a message: a NAT router may drop a connection without notice to
   * either side. Any message restarts the timer, because the answer to a heartbeat may be queued behind the
   * frames of many streams.
   */
  #restartIdleTimer(limitMs: number): void {
    clearTimeout(this.#idleTimer)
    this.#idleTimer = setTimeout(() => this.#control?.terminate(), limitMs)
  }
}

function isRefusal(error: unknown): boolean {
  return error instanceof HandshakeRefused && error.status === 401
}
