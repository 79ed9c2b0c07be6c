import type { TokenLogprob } from '../../shared/protocol/events.ts'
import type { TokenBytes } from './token-bytes.ts'

/** Stands for less than that, minus infinity included: JSON has no such number. As OpenAI does. */
const LEAST = -9999

/** The log-probabilities of one branch's tokens, until the text that they belong to is sent. */
export class TokenLogprobs {
  readonly #bytes: TokenBytes
  readonly #waiting: TokenLogprob[] = []
  /** Where the newest token's text begins; its own row has not come yet. */
  #at: number | undefined

  constructor(bytes: TokenBytes) {
    this.#bytes = bytes
  }

  /** A token begins, whose rows may follow. */
  begin(at: number): void {
    this.#at = at
  }

  add(token: number, logprob: number): void {
    const row = { ...this.#textOf(token), logprob: Math.max(LEAST, logprob) }
    if (this.#at === undefined) {
      this.#waiting.at(-1)?.top.push(row)
    } else {
      this.#waiting.push({ at: this.#at, ...row, top: [] })
      this.#at = undefined
    }
  }

  /** Those of tokens that begin before `end`; tokens without text, as [Fork] is one, are left out. */
  takeBefore(end: number): TokenLogprob[] {
    const count = this.#waiting.findIndex(({ at }) => at >= end)
    const taken = this.#waiting.splice(0, count === -1 ? this.#waiting.length : count)
    return taken.filter(({ bytes }) => bytes !== null)
  }

  #textOf(token: number): { token: string; bytes: number[] | null } {
    const bytes = this.#bytes[token]
    if (!bytes) return { token: `token_id:${token}`, bytes: null }
    return { token: new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes), bytes: [...bytes] }
  }
}
