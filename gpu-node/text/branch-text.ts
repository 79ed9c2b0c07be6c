import type { TokenLogprob } from '../../shared/protocol/events.ts'
import { StopMatcher } from '../../shared/stop-matcher.ts'
import { BranchDecoder } from './branch-decoder.ts'
import type { TokenBytes } from './token-bytes.ts'
import { TokenLogprobs } from './token-logprobs.ts'

/** Converts one branch's tokens to text that may be sent: decodes UTF-8 and applies stop strings. */
export class BranchText {
  /** Number of tokens of this branch, sampled or forced. */
  tokens = 0
  /** True once the branch has ended for the client. */
  ended = false
  /** A stop string is complete; the engine ends the branch at the same token. */
  stopped = false
  /** Number of code units decoded after each token, to find the token at a position. */
  readonly #decodedAfter: number[] = []
  readonly #decoder: BranchDecoder
  readonly #stops: StopMatcher
  /** Text that may be sent but has not been taken yet. */
  #pending = ''
  #length = 0
  /** UTF-16 code units decoded so far, including those held back. */
  #decoded = 0
  readonly #logprobs: TokenLogprobs

  constructor(bytes: TokenBytes, stops: readonly string[], dropLeadingSpace: boolean) {
    this.#decoder = new BranchDecoder(bytes, dropLeadingSpace)
    this.#stops = new StopMatcher(stops)
    this.#logprobs = new TokenLogprobs(bytes)
  }

  /** Returns the text that the token completes, also what is behind a stop string or held back. */
  push(token: number): string {
    this.tokens++
    this.#logprobs.begin(this.#decoded)
    const text = this.#decoder.push(token)
    this.#decoded += text.length
    this.#decodedAfter.push(this.#decoded)
    this.#match(text)
    return text
  }

  /** Call where the text ends or forks: releases text held back as a partial character or a possible stop string. Returns the former. */
  flush(): string {
    if (this.stopped) return ''
    const rest = this.#decoder.flush()
    this.#decoded += rest.length
    this.#match(rest)
    if (!this.stopped) this.#add(this.#stops.release())
    return rest
  }

  /** Tokens up to the one that completes the first `length` code units. */
  tokensFor(length: number): number {
    const last = this.#decodedAfter.findIndex((decoded) => decoded >= length)
    return last === -1 ? this.tokens : last + 1
  }

  /** Adds a log-probability that follows a token: first the token's own, then those of the most likely tokens. */
  addLogprob(token: number, logprob: number): void {
    this.#logprobs.add(token, logprob)
  }

  /** Returns, once, the log-probabilities of the tokens whose text starts in text returned by {@link take}. */
  takeLogprobs(): TokenLogprob[] {
    return this.#logprobs.takeBefore(this.#length)
  }

  /** UTF-16 code units of the branch's text that are not held back. After {@link flush}: the position of a fork. */
  get length(): number {
    return this.#length
  }

  /** Returns, once, the text that can be sent. */
  take(): string {
    const text = this.#pending
    this.#pending = ''
    return text
  }

  #match(text: string): void {
    if (text === '') return
    const matched = this.#stops.push(text)
    this.#add(matched.text)
    this.stopped = matched.stopped
  }

  #add(text: string): void {
    this.#pending += text
    this.#length += text.length
  }
}
