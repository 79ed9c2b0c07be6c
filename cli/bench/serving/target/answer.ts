/** What a target counted. */
export interface AnswerUsage {
  readonly promptTokens: number
  /** Of these, found in a prefix cache. */
  readonly cachedTokens: number
  readonly outputTokens: number
}

/** A request that got no whole answer: an HTTP status, an error in the stream, or a lost connection. */
export class RequestFailed extends Error {
  override readonly name = 'RequestFailed'
  readonly code: string

  constructor(code: string, message: string) {
    super(message)
    this.code = code
  }
}

/** Collects an answer while it arrives. Times are those of `performance.now()`. */
export class ReceivedAnswer {
  /** When each piece of text arrived. */
  readonly pieceTimes: number[] = []
  readonly #pieces: string[] = []
  #text: string | undefined
  usage: AnswerUsage | undefined
  /** Of requests with a trace: when each step of the engine ended, in ms from the request's acceptance. */
  stepTimes: number[] | undefined
  finish: string | undefined
  /** The target has said that this is all. */
  whole = false

  /** Pieces without text do not count: a first one may only name the role. */
  addText(piece: string, at: number): void {
    if (piece === '') return
    this.#pieces.push(piece)
    this.pieceTimes.push(at)
  }

  /** The next steps of the trace. One without rows only says that the request was ended between two steps. */
  addSteps(steps: readonly { readonly us: number; readonly rows: number }[]): void {
    this.stepTimes ??= []
    for (const { us, rows } of steps) if (rows > 0) this.stepTimes.push(us / 1000)
  }

  /** For pieces that did not come in the order of the text. */
  setText(text: string): void {
    this.#text = text
  }

  get text(): string {
    return this.#text ?? this.#pieces.join('')
  }

  /** Counted by the target; where it counts nothing, the pieces. */
  get outputTokens(): number {
    return this.usage?.outputTokens ?? this.pieceTimes.length
  }
}
