import { AparError } from '../../shared/errors.ts'
import { MAX_NODE_FRAME_CHARS, type NodeBatch, ROW_WIDTH } from '../../shared/protocol/node.ts'
import { type GenerateRequest, MAX_NEW_TOKENS } from '../../shared/protocol/request.ts'

/** A token is one row; with it a branch may begin, with its own row, or end, with another. */
const ROWS_PER_TOKEN = 3
/** For what does not grow with the answer: `accepted`, a few rows, the last tokens of branches that end together. */
const SPARE_ROWS = 4096
const SPARE_CHARS = 64 * 1024
/** UTF-16 code units of a batch's JSON per row: the row, an event, and a text. Long tokens are runs of 128 spaces. */
const CHARS_PER_ROW = 1024
/** The same for one token in a list of log-probabilities: its text, once more as bytes, and a number. */
const CHARS_PER_LOGPROB = 1024
/** A token's id, and a comma. */
const CHARS_PER_ID = 11

/** Most new tokens that the request may get from a node with this context; unknown, that of any request. */
export function maxNewTokens(request: GenerateRequest, contextTokens: number | undefined): number {
  return Math.min(request.max_tokens ?? MAX_NEW_TOKENS, contextTokens ?? MAX_NEW_TOKENS, MAX_NEW_TOKENS)
}

/**
 * What one gpu node may send for one request, over all connections to it. The bound follows from the request: its
 * tokens bound the rows, the rows bound the text. Text without rows could not be continued by another node, so honest
 * nodes send none.
 */
export class NodeAllowance {
  readonly #maxRows: number
  readonly #charsPerRow: number
  /** For the tokens of the prompt. */
  readonly #promptChars: number
  #rows = 0
  #chars = 0

  constructor(request: GenerateRequest, contextTokens: number | undefined) {
    this.#maxRows = SPARE_ROWS + ROWS_PER_TOKEN * maxNewTokens(request, contextTokens)
    this.#charsPerRow = CHARS_PER_ROW
    const { prompt_logprobs, return_prompt_token_ids } = request
    const charsPerToken =
      (prompt_logprobs === undefined ? 0 : (2 + prompt_logprobs) * CHARS_PER_LOGPROB) +
      (return_prompt_token_ids ? CHARS_PER_ID : 0)
    this.#promptChars = (contextTokens ?? MAX_NEW_TOKENS) * charsPerToken
    if (request.logprobs !== undefined) this.#charsPerRow += (1 + request.logprobs) * CHARS_PER_LOGPROB
  }

  /**
   * Call before a frame is parsed. False when it is longer than any frame may be: tokens with long texts get there, so
   * this alone is no nonsense. @throws AparError `body_too_large` when it is more than the request allows.
   */
  hasRoomFor(text: string): boolean {
    if (text.length > SPARE_CHARS + this.#promptChars + this.#maxRows * this.#charsPerRow)
      throw new AparError('body_too_large', `a frame of ${text.length} characters`)
    return text.length <= MAX_NODE_FRAME_CHARS
  }

  /** Counts a batch; `text` is its frame. @throws AparError `body_too_large` when it is more than the request allows. */
  take({ rows }: NodeBatch, text: string): void {
    if (rows.length % ROW_WIDTH !== 0) throw new AparError('invalid_request', 'rows: half a row')
    this.#rows += rows.length / ROW_WIDTH
    this.#chars += text.length
    if (this.#rows > this.#maxRows)
      throw new AparError('body_too_large', `more than the ${this.#maxRows} rows that the request allows`)
    const maxChars = SPARE_CHARS + this.#promptChars + this.#rows * this.#charsPerRow
    if (this.#chars > maxChars)
      throw new AparError('body_too_large', `more than ${maxChars} characters for ${this.#rows} rows`)
  }
}
