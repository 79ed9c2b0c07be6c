import { DurableObject } from 'cloudflare:workers'
import type { Env } from '../env.ts'
import { type Taken, TokenBucket } from './token-bucket.ts'

/** How long a burst may go on before its count is written down: less than it takes to evict an idle object. */
const PERSIST_AFTER_MS = 1000

/** The limits of one API key; its name is the key's id. One thread decides, so a limit holds exactly. */
export class KeyLimits extends DurableObject<Env> {
  readonly #bucket: TokenBucket
  #persisting = false

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env)
    this.#bucket = new TokenBucket(ctx.storage.kv.get<number>('requests_full_at'))
  }

  /** Takes one request out of `requestsPerMinute`. */
  take(requestsPerMinute: number): Taken {
    const taken = this.#bucket.take(requestsPerMinute, Date.now())
    if (taken.allowed && !this.#persisting) this.#persistSoon()
    return taken
  }

  /** One write for a burst of requests. A crash within the delay gives the key that burst again, nothing more. */
  #persistSoon(): void {
    this.#persisting = true
    setTimeout(() => {
      this.#persisting = false
      this.ctx.storage.kv.put('requests_full_at', this.#bucket.fullAt)
    }, PERSIST_AFTER_MS)
  }
}
