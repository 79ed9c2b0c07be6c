import { EVENT } from '../engine/engine-events.ts'
import type { TokenBytes } from '../text/token-bytes.ts'

/**
 * A delivery of the engine may have 65,536 events, which would be several Mi characters with log-probabilities. The edge
 * leaves a node that sends a frame of more than MAX_NODE_FRAME_CHARS. UTF-16 code units of JSON.
 */
const FULL = 1024 * 1024

/** A row, and the frame of an event or of a token's log-probability, without its text. */
const PER_EVENT = 160
/** In JSON a byte of text takes at most 6 characters (`\\u0000`). */
const PER_BYTE = 6
/** A log-probability has the bytes as numbers, too. */
const PER_LOGPROB_BYTE = PER_BYTE + 4

/** Estimates the JSON of the batch that is being collected. It is never larger than estimated. */
export class BatchSize {
  readonly #bytes: TokenBytes
  /** The text and the number of each token are in the trace, too. */
  readonly #copies: number
  #chars = 0

  constructor(bytes: TokenBytes, traced = false) {
    this.#bytes = bytes
    this.#copies = traced ? 2 : 1
  }

  get isFull(): boolean {
    return this.#chars >= FULL
  }

  /** Call for each engine event. `token`: of a token or a log-probability. */
  add(kind: number, token: number): void {
    this.#chars += PER_EVENT
    if (kind === EVENT.TOKEN) this.#chars += this.#copies * PER_BYTE * this.#bytes.lengthOf(token)
    else if (kind === EVENT.LOGPROB) this.#chars += PER_LOGPROB_BYTE * this.#bytes.lengthOf(token)
  }

  reset(): void {
    this.#chars = 0
  }
}
