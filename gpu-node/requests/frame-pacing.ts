import type { RunningRequest } from './request.ts'

type PacedRequest = Pick<RunningRequest, 'urgent'>

/** Up to this many running requests each delivery of the engine, at most one in 4 ms, is sent at once. */
const UNPACED_REQUESTS = 4
/** Frames that a node sends while more requests run. */
const FRAMES_PER_MS = 1
/** Text waits no longer than this: three pictures of a screen. */
const MAX_HOLD_MS = 50

/**
 * When the text of running requests is sent. A frame per stream and delivery would be tens of thousands a second, and the
 * edge, which handles each, would be busy with them instead of with new requests. So the more requests run, the more text
 * is collected for a frame; the first text of a request, and its end, never wait.
 */
export class FramePacing<Request extends PacedRequest = RunningRequest> {
  readonly #flush: (request: Request) => void
  readonly #held = new Set<Request>()
  #timer: NodeJS.Timeout | undefined

  constructor(flush: (request: Request) => void) {
    this.#flush = flush
  }

  /** `touched`: the requests that a delivery of the engine was for; `running`: all that decode now. */
  delivered(touched: Iterable<Request>, running: number): void {
    for (const request of touched) {
      if (running > UNPACED_REQUESTS && !request.urgent) {
        this.#held.add(request)
      } else {
        this.#held.delete(request)
        this.#flush(request)
      }
    }
    if (this.#held.size > 0 && this.#timer === undefined) {
      const hold = Math.min(MAX_HOLD_MS, running / FRAMES_PER_MS)
      this.#timer = setTimeout(() => this.flushAll(), hold)
    }
  }

  flushAll(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const held = [...this.#held]
    this.#held.clear()
    for (const request of held) this.#flush(request)
  }
}
