import type { TokenLogprob } from '../../shared/protocol/events.ts'
import { StopMatcher } from '../../shared/stop-matcher.ts'
import type { ReasoningParser, SplitText } from '../reasoning/reasoning-parser.ts'
import { BranchDecoder } from './branch-decoder.ts'
import type { TokenBytes } from './token-bytes.ts'
import { TokenLogprobs } from './token-logprobs.ts'

/**
 * Converts one branch's tokens to text that may be sent: decodes UTF-8, takes reasoning out, and applies stop strings.
 * Lengths and positions are those of the text without reasoning.
 */
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
  readonly #everyToken: boolean
  readonly #reasoning: ReasoningParser | undefined
  #pendingReasoning = ''
  #reasoningLength = 0

  /**
   * `reasoning`: for a branch that may think. `everyToken`: tokens without text have log-probabilities, too, and so has the
   * one that ends the branch.
   */
  constructor(
    bytes: TokenBytes,
    stops: readonly string[],
    dropLeadingSpace: boolean,
    reasoning?: ReasoningParser | undefined,
    everyToken = false,
  ) {
    this.#reasoning = reasoning
    this.#decoder = new BranchDecoder(bytes, dropLeadingSpace)
    this.#stops = new StopMatcher(stops)
    this.#logprobs = new TokenLogprobs(bytes, everyToken)
    this.#everyToken = everyToken
  }

  /** Returns the text that the token completes, also what is behind a stop string or held back. */
  push(token: number): string {
    this.tokens++
    this.#logprobs.begin(this.#decoded)
    const text = this.#decoder.push(token)
    this.#decoded += text.length
    this.#decodedAfter.push(this.#decoded)
    this.#split(text)
    return text
  }

  /**
   * Call where the text ends (`over`) or forks: releases text held back as a partial character, or as a possible stop
   * string or marker. Returns the first.
   */
  flush(over: boolean): string {
    if (this.stopped) return ''
    const rest = this.#decoder.flush()
    this.#decoded += rest.length
    this.#split(rest)
    const parser = this.#reasoning
    if (parser && !this.stopped) this.#take(over ? parser.flush() : parser.release())
    if (!this.stopped) this.#add(this.#stops.release())
    return rest
  }

  /** Tokens up to the one that completes the first `length` code units. */
  tokensFor(length: number): number {
    const end = length + (this.#reasoning?.contentStart ?? 0)
    const last = this.#decodedAfter.findIndex((decoded) => decoded >= end)
    return last === -1 ? this.tokens : last + 1
  }

  /** Adds a log-probability that follows a token: first the token's own, then those of the most likely tokens. */
  addLogprob(token: number, logprob: number): void {
    this.#logprobs.add(token, logprob)
  }

  /** Its log-probabilities follow. It is no token of the text. */
  endToken(): void {
    this.#logprobs.begin(this.#decoded)
  }

  /** Those that no text has: of tokens behind the last text, and of the one that ends the branch. Call after {@link flush}. */
  takeLastLogprobs(): TokenLogprob[] {
    return this.#everyToken && !this.stopped ? this.#logprobs.takeBefore(Number.POSITIVE_INFINITY) : []
  }

  /** Returns, once, the log-probabilities of the tokens whose text starts in text returned by {@link take}. */
  takeLogprobs(): TokenLogprob[] {
    const start = this.#reasoning?.contentStart ?? 0
    const rows = this.#logprobs.takeBefore(start + this.#length)
    return rows.flatMap((row) => (row.at < start ? [] : [{ ...row, at: row.at - start }]))
  }

  /** Whether what is forked here is reasoning, too. */
  get isReasoning(): boolean {
    return this.#reasoning?.inside ?? false
  }

  /** UTF-16 code units of the branch's reasoning that are not held back. */
  get reasoningLength(): number {
    return this.#reasoningLength
  }

  /** Tokens of the reasoning and its markers. */
  get reasoningTokens(): number {
    const parser = this.#reasoning
    if (!parser?.thought) return 0
    const { contentStart } = parser
    if (contentStart === undefined) return this.tokens
    const first = this.#decodedAfter.findIndex((decoded) => decoded > contentStart)
    return first === -1 ? this.tokens : first
  }

  /** Returns, once, the reasoning that can be sent. */
  takeReasoning(): string {
    const text = this.#pendingReasoning
    this.#pendingReasoning = ''
    return text
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

  #split(text: string): void {
    if (this.#reasoning) this.#take(this.#reasoning.push(text))
    else this.#match(text)
  }

  #take({ reasoning, content }: SplitText): void {
    this.#pendingReasoning += reasoning
    this.#reasoningLength += reasoning.length
    this.#match(content)
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
