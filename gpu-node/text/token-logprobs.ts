import type { TokenLogprob } from '../../shared/protocol/events.ts'
import type { TokenBytes } from './token-bytes.ts'

/** Replaces smaller values, as in OpenAI's API: JSON has no minus infinity. */
const MIN_LOGPROB = -9999

/** Collects the log-probabilities of one branch's tokens until their text is sent. */
export class TokenLogprobs {
  readonly #bytes: TokenBytes
  readonly #everyToken: boolean
  readonly #waiting: TokenLogprob[] = []
  /** Start of the newest token's text; undefined once the token's own log-probability has arrived. */
  #at: number | undefined

  /** `everyToken`: those without text, such as [Fork], are kept. */
  constructor(bytes: TokenBytes, everyToken = false) {
    this.#bytes = bytes
    this.#everyToken = everyToken
  }

  /** Call for each token, before its log-probabilities. */
  begin(at: number): void {
    this.#at = at
  }

  add(token: number, logprob: number): void {
    const row = { ...tokenText(this.#bytes, token), logprob: atLeastMin(logprob) }
    if (this.#at === undefined) {
      this.#waiting.at(-1)?.top.push(row)
    } else {
      this.#waiting.push({ at: this.#at, ...row, top: [] })
      this.#at = undefined
    }
  }

  /** Removes and returns the tokens whose text starts before `end`. */
  takeBefore(end: number): TokenLogprob[] {
    const count = this.#waiting.findIndex(({ at }) => at >= end)
    const taken = this.#waiting.splice(0, count === -1 ? this.#waiting.length : count)
    return taken.filter(({ bytes }) => this.#everyToken || bytes !== null)
  }
}

/** A token as the events have it. */
export function tokenText(all: TokenBytes, token: number): { token: string; bytes: number[] | null } {
  const bytes = all.of(token)
  if (!bytes) return { token: `token_id:${token}`, bytes: null }
  return { token: new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes), bytes: [...bytes] }
}

export function atLeastMin(logprob: number): number {
  return Math.max(MIN_LOGPROB, logprob)
}
