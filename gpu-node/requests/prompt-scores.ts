import type { PromptEvent } from '../../shared/protocol/events.ts'
import type { TokenBytes } from '../text/token-bytes.ts'
import { atLeastMin, tokenText } from '../text/token-logprobs.ts'

type PromptToken = PromptEvent['tokens'][number]

/** So that no event becomes longer than a frame may be. */
const TOKENS_PER_EVENT = 1024

/** Collects the log-probabilities of a prompt's tokens, which the engine reports in order. */
export class PromptScores {
  readonly #bytes: TokenBytes
  readonly #tokens: PromptToken[]

  constructor([first = 0]: Int32Array, bytes: TokenBytes) {
    this.#bytes = bytes
    this.#tokens = [{ ...tokenText(bytes, first), logprob: null, id: first, top: [] }]
  }

  /** `position`: in the prompt. The first row of a position is that of its own token. */
  add(position: number, token: number, logprob: number): void {
    const row = { ...tokenText(this.#bytes, token), logprob: atLeastMin(logprob) }
    const known = this.#tokens[position]
    if (known) known.top.push(row)
    else this.#tokens.push({ ...row, id: token, top: [] })
  }

  /** All tokens, in pieces for one event each. */
  pieces(): PromptToken[][] {
    const tokens = this.#tokens
    const count = Math.ceil(tokens.length / TOKENS_PER_EVENT)
    return Array.from({ length: count }, (_, i) =>
      tokens.slice(i * TOKENS_PER_EVENT, (i + 1) * TOKENS_PER_EVENT),
    )
  }
}
