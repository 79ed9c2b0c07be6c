import type { TokenLogprob } from '../../shared/protocol/events.ts'
import { BranchDecoder } from './branch-decoder.ts'
import { StopMatcher } from './stop-matcher.ts'
import type { TokenBytes } from './token-bytes.ts'
import { TokenLogprobs } from './token-logprobs.ts'

/** One branch's own text on its way out: tokens in, text that may be sent out. */
export class BranchText {
  /** Tokens that this branch sampled, or was forced to take. */
  tokens = 0
  /** True once the branch has ended for the client; the engine may lag behind. */
  ended = false
  readonly #decoder: BranchDecoder
  readonly #stops: StopMatcher
  /** Text that may be sent but was not yet. */
  #pending = ''
  #length = 0
  /** UTF-16 code units decoded so far, held back or not. */
  #decoded = 0
  readonly #logprobs: TokenLogprobs

  constructor(bytes: TokenBytes, stops: readonly string[], dropLeadingSpace: boolean) {
    this.#decoder = new BranchDecoder(bytes, dropLeadingSpace)
    this.#stops = new StopMatcher(stops)
    this.#logprobs = new TokenLogprobs(bytes)
  }

  /** True when a stop string is complete: the branch ends here. */
  push(token: number): boolean {
    this.tokens++
    this.#logprobs.begin(this.#decoded)
    const text = this.#decoder.push(token)
    this.#decoded += text.length
    return this.#match(text)
  }

  /**
   * Where the text ends or forks: lets out what was held back for the rest of a character or of a stop string. True when
   * that completes a stop string.
   */
  flush(): boolean {
    const rest = this.#decoder.flush()
    this.#decoded += rest.length
    if (this.#match(rest)) return true
    this.#add(this.#stops.release())
    return false
  }

  /** Takes one of the log-probabilities that follow a token: first its own, then the likeliest. */
  addLogprob(token: number, logprob: number): void {
    this.#logprobs.add(token, logprob)
  }

  /** Of the tokens whose text begins in what {@link take} has given out, once. */
  takeLogprobs(): TokenLogprob[] {
    return this.#logprobs.takeBefore(this.#length)
  }

  /** UTF-16 code units of the own text that nothing holds back. After {@link flush}: where a fork stands. */
  get length(): number {
    return this.#length
  }

  /** The text to send, once. */
  take(): string {
    const text = this.#pending
    this.#pending = ''
    return text
  }

  #match(text: string): boolean {
    if (text === '') return false
    const matched = this.#stops.push(text)
    this.#add(matched.text)
    return matched.stopped
  }

  #add(text: string): void {
    this.#pending += text
    this.#length += text.length
  }
}
