/** How long a stream may be silent before the lease of its node is looked at. */
const SILENCE_MS = 4_000
/** After the end of a lease: a heartbeat that is on its way renews it. */
const MARGIN_MS = 100
/**
 * A node answers a request with `accepted`, or refuses it, when it has encoded the prompt: at once for most prompts, and
 * within 45 s for every prompt, however many wait before it (gpu-node/text/prompt-pool.ts). It accepts requests that
 * have to wait for the engine. So this bounds the wait for a node whose heartbeats arrive but which does nothing else.
 */
const FIRST_BATCH_MS = 60_000
/** The same between batches: a prompt before this one in the queue may take minutes. */
const NEXT_BATCH_MS = 10 * 60_000

export interface SilenceOptions {
  /** Time until the lease of the stream's node ends, in ms; 0 or less when it has ended. */
  readonly leaseMs: () => Promise<number>
  /** `hasLease`: the fleet still sends requests to the node. */
  readonly onLost: (why: string, hasLease: boolean) => void
  /** The node owes a batch at once: it has been sent a new request. */
  readonly startsStream: boolean
  /** Default 4 s. */
  readonly silenceMs?: number | undefined
}

/**
 * Notices that a node is lost although its connection seems open: its machine has crashed or was stopped, or the
 * network drops packets. Then heartbeats stop, too; a node that only takes long keeps its lease. The next look is at
 * the end of the lease, so a node is lost for its streams as soon as it is for the fleet.
 */
export class Silence {
  readonly #options: SilenceOptions
  readonly #silenceMs: number
  #last = Date.now()
  #owesFirst: boolean
  #timer: ReturnType<typeof setTimeout> | null = null
  #stopped = false

  constructor(options: SilenceOptions) {
    this.#options = options
    this.#silenceMs = options.silenceMs ?? SILENCE_MS
    this.#owesFirst = options.startsStream
    this.#lookIn(this.#silenceMs)
  }

  /** Call for every frame. The timer is not touched: frames are frequent. */
  heard(): void {
    this.#last = Date.now()
    this.#owesFirst = false
  }

  stop(): void {
    this.#stopped = true
    clearTimeout(this.#timer)
  }

  #lookIn(ms: number): void {
    if (!this.#stopped) this.#timer = setTimeout(() => void this.#look(), ms)
  }

  async #look(): Promise<void> {
    const silentMs = Date.now() - this.#last
    // The clock may have been set back.
    if (silentMs < this.#silenceMs) return this.#lookIn(this.#silenceMs - Math.max(0, silentMs))
    if (silentMs > (this.#owesFirst ? FIRST_BATCH_MS : NEXT_BATCH_MS))
      return this.#lost('is silent, but has a lease', true)
    const last = this.#last
    // When the fleet cannot be asked, the node counts as alive.
    const leaseMs = await this.#options.leaseMs().catch(() => this.#silenceMs)
    if (leaseMs <= 0 && this.#last === last) return this.#lost('is silent, and its lease has ended', false)
    this.#lookIn(Math.max(leaseMs, 0) + Math.min(MARGIN_MS, this.#silenceMs))
  }

  #lost(why: string, hasLease: boolean): void {
    if (!this.#stopped) this.#options.onLost(why, hasLease)
  }
}
