import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from '../../shared/log.ts'
import type { Heartbeat, Lease } from '../../shared/protocol/fleet.ts'
import type { RequestSocket } from '../requests/request-socket.ts'
import { StartupError } from '../startup-error.ts'
import { ControlSocket, HandshakeRefused } from './control-socket.ts'
import type { EdgeLink } from './edge-link.ts'

/** A socket that was only cut is dialled again at once: the edge moves the streams of a node that stays away. */
const AT_ONCE_MS = 100
const FIRST_RETRY_MS = 250
const LAST_RETRY_MS = 5_000
/** The first lease comes with the first heart-beat's answer. Until then, as the edge has it (edge/nodes/fleet.ts). */
const FIRST_LEASE_MS = 10_000
const FIRST_HEARTBEAT_MS = 5_000

export interface DialInOptions {
  /** The edge's address: `http://host:port` or `https://…`. */
  edgeUrl: string
  nodeId: string
  nodeSecret: string
  /** Asked before every beat. */
  heartbeat: () => Heartbeat
  /** Serves one stream. */
  serve: (channel: RequestSocket) => void
  log: Logger
}

/**
 * Keeps one socket to the edge, over which the edge hears of this gpu node and reaches its streams: for a node that the
 * edge cannot dial. A socket that is lost is dialled again, waiting longer each time; the streams go on meanwhile.
 */
export class DialIn implements EdgeLink {
  readonly registered: Promise<void>
  readonly #options: DialInOptions
  readonly #stopped = new AbortController()
  readonly #loop: Promise<void>
  #control: ControlSocket | undefined
  #registered: () => void = () => {}
  #lost = false
  #failures = 0
  #leaseEndsAt = 0
  #heartbeatMs = FIRST_HEARTBEAT_MS
  #nextBeat: ReturnType<typeof setTimeout> | undefined
  #silence: ReturnType<typeof setTimeout> | undefined

  constructor(options: DialInOptions) {
    this.#options = options
    let refused: (error: Error) => void = () => {}
    this.registered = new Promise((resolve, reject) => {
      this.#registered = resolve
      refused = reject
    })
    // Whoever does not wait for the promise hears of the refusal through the log.
    this.registered.catch(() => {})
    this.#loop = this.#dialUntilStopped(refused)
  }

  get holdsLease(): boolean {
    return performance.now() < this.#leaseEndsAt
  }

  async beatNow(): Promise<void> {
    this.#beat()
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
      if (!this.#lost) this.#options.log.warn('not registered', { edge: this.#options.edgeUrl, reason })
      this.#lost = true
      const wait =
        this.#failures === 0
          ? AT_ONCE_MS
          : Math.min(FIRST_RETRY_MS * 2 ** (this.#failures - 1), LAST_RETRY_MS)
      this.#failures++
      // All nodes of an edge that was restarted come back, but not at the same moment.
      await sleep(wait * (0.5 + Math.random() / 2), undefined, { signal }).catch(() => {})
    }
  }

  /** Settles with the reason once the socket is closed. @throws Error when it was never open. */
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
      onHeard: () => this.#silence?.refresh(),
      onLease: (lease) => this.#onLease(lease),
      onClose: (reason) => closed(reason),
      log: this.#options.log,
    })
    this.#control = control
    if (this.#stopped.signal.aborted) await control.close()
    this.#watchSilence(FIRST_LEASE_MS)
    this.#beat()
    try {
      return await closing
    } finally {
      this.#control = undefined
      clearTimeout(this.#nextBeat)
      clearTimeout(this.#silence)
    }
  }

  #onLease({ heartbeat_ms, lease_ms }: Lease): void {
    const first = this.#leaseEndsAt === 0
    this.#leaseEndsAt = performance.now() + lease_ms
    this.#failures = 0
    if (this.#lost || first) this.#options.log.info('registered', { edge: this.#options.edgeUrl })
    this.#lost = false
    this.#registered()
    this.#watchSilence(lease_ms)
    if (heartbeat_ms === this.#heartbeatMs) return
    this.#heartbeatMs = heartbeat_ms
    this.#armNextBeat()
  }

  #beat(): void {
    if (!this.#control) return
    // Before the answer, which may never come: while streams run, the edge is not silent, and the lease needs another beat.
    this.#armNextBeat()
    this.#control.beat(this.#options.heartbeat())
  }

  #armNextBeat(): void {
    clearTimeout(this.#nextBeat)
    this.#nextBeat = setTimeout(() => this.#beat(), this.#heartbeatMs)
  }

  /**
   * Whatever comes is a sign of life: behind many streams' frames a heart-beat's answer may be late.
   * A connection may be dead without either side knowing: routers forget those that they translate.
   */
  #watchSilence(limitMs: number): void {
    clearTimeout(this.#silence)
    this.#silence = setTimeout(() => this.#control?.terminate(), limitMs)
  }
}

function isRefusal(error: unknown): boolean {
  return error instanceof HandshakeRefused && error.status === 401
}
