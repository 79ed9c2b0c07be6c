import { OrderedText, type Piece } from '../../../shared/branch-tree.ts'
import { AparError } from '../../../shared/errors.ts'
import type { FinishReason } from '../../../shared/openai.ts'
import type {
  AcceptedEvent,
  StreamEvent,
  TokenLogprob,
  ToolArgumentsEvent,
  ToolCallEvent,
  Usage,
} from '../../../shared/protocol/events.ts'
import { errorOf } from '../../../shared/protocol/events.ts'
import { TRACE_VERSION, type Trace, type TraceStep } from '../../../shared/protocol/trace.ts'
import { ReasoningText } from '../../../shared/reasoning-text.ts'
import type { EventWithRows } from '../../../shared/stream-log.ts'
import { OrderedTokens } from './ordered-tokens.ts'

/** A token's log-probability, and where the token begins in the choice's text, in UTF-16 code units. */
export interface PlacedLogprob extends TokenLogprob {
  readonly offset: number
}

/** New text at its final position in document order, and the log-probabilities of the tokens that begin in it. */
export interface Growth {
  readonly text: string
  readonly logprobs: readonly PlacedLogprob[]
  /** In front of the text: more of what the model thinks, in document order. */
  readonly reasoning: string
  /** Behind the text: the beginning of a call of a tool, or more of its arguments. */
  readonly call?: CallPart | undefined
}

export type CallPart = Omit<ToolCallEvent, 'seq'> | Omit<ToolArgumentsEvent, 'seq'>

/** A call of a tool, as far as it has come. */
export interface Call {
  readonly id: string
  readonly name: string
  arguments: string
}

/**
 * One of OpenAI's `choices`: a stream's text in document order, before the first of the stop strings. `push` every event
 * that follows `accepted`.
 */
export class Choice {
  readonly #ordered: OrderedText
  readonly #reasoning: ReasoningText
  /** Per branch, the log-probabilities whose text is not final yet, in order of `at`. */
  readonly #waiting = new Map<number, TokenLogprob[]>()
  /** Per branch, with `token_counts`. */
  readonly #tokens = new Map<number, number>()
  /** Of tokens behind the text of their branch; they follow the last text. */
  readonly #last: { readonly branch: number; readonly rows: readonly TokenLogprob[] }[] = []
  #stopToken: number | undefined
  readonly #tokenIds = new OrderedTokens()
  /** Of a request that wants the ids of its tokens. */
  readonly promptTokenIds: readonly number[] | undefined
  readonly calls: Call[] = []
  #finishReason: FinishReason = 'stop'
  #usage: Usage | undefined
  readonly #steps: TraceStep[] = []

  constructor(accepted: AcceptedEvent, stop: readonly string[]) {
    this.#ordered = new OrderedText(accepted.joints, stop)
    this.#reasoning = new ReasoningText(accepted.joints)
    this.promptTokenIds = accepted.prompt_token_ids
  }

  /**
   * The text that this event makes final; often empty.
   * @throws AparError for the event of a failed stream.
   */
  push(event: EventWithRows): Growth {
    if (event.type === 'error') throw errorOf(event)
    if (event.rows) this.#tokenIds.push(event.rows)
    if (event.type === 'trace') this.#steps.push(...event.steps)
    const isText = event.type === 'delta' || event.type === 'reasoning'
    if (isText && event.tokens !== undefined) this.#tokens.set(event.branch, event.tokens)
    if (event.type === 'branch_end' && event.branch === 0) this.#stopToken = event.stop_token
    if (event.type === 'branch_end' && event.logprobs)
      this.#last.push({ branch: event.branch, rows: event.logprobs })
    if (event.type === 'delta' && event.logprobs) this.#keep(event.branch, event.logprobs)
    const call = this.#callOf(event)
    // No text follows a call: what could be the beginning of a stop string is none.
    const pieces = call ? this.#ordered.read(true) : this.#ordered.pushPieces(event)
    if (event.type === 'done') {
      const root = this.#ordered.tree.branch(0)?.reason
      const cut = event.reason === 'length' || root === 'length'
      const whole = this.calls.length > 0 && this.stop === undefined ? 'tool_calls' : 'stop'
      this.#finishReason = cut && this.stop === undefined ? 'length' : whole
      this.#usage = event.usage
    }
    const text = pieces.map(({ text }) => text).join('')
    let end = this.#ordered.length - text.length
    const logprobs = pieces.flatMap((piece) => {
      end += piece.text.length
      return this.#logprobsIn(piece, end)
    })
    if (event.type === 'done' && this.stop === undefined) logprobs.push(...this.#lastLogprobs())
    return { reasoning: this.#reasoning.push(event), text, logprobs, call }
  }

  /**
   * The ids of the tokens that have come since the last call, in document order, up to the one that completed a stop
   * string; for a request that wants them.
   */
  takeTokenIds(): number[] {
    if (this.stop === undefined) return this.#tokenIds.take(this.#usage !== undefined)
    // Others may have come with that one: the usage, which comes last, says how many the answer has.
    return this.#usage ? this.#tokenIds.take(true, this.#usage.completion_tokens) : []
  }

  /** The stop string that ended the text. */
  get stop(): string | undefined {
    return this.#ordered.end?.stop
  }

  /** What is returned beside the text of a request that asked for it: its trace so far. */
  get apar(): { apar: { trace: Trace } } | undefined {
    const steps = this.#steps
    return steps.length > 0 ? { apar: { trace: { version: TRACE_VERSION, steps } } } : undefined
  }

  /** The stop string, or the token of `stop_token_ids`, that ended the text. */
  get matchedStop(): string | number | undefined {
    return this.stop ?? this.#stopToken
  }

  /** How many there are until now, with `token_counts`. */
  get tokens(): number {
    return this.#usage?.completion_tokens ?? [...this.#tokens.values()].reduce((sum, count) => sum + count, 0)
  }

  /** Valid after `done`. */
  get finishReason(): FinishReason {
    return this.#finishReason
  }

  /** @throws AparError before `done`, which never comes when the client has disconnected. */
  get usage(): Usage {
    if (!this.#usage) throw new AparError('gpu_node_lost', 'the stream was cut before its end')
    return this.#usage
  }

  #callOf(event: StreamEvent): CallPart | undefined {
    if (event.type === 'tool_call') {
      this.calls.push({ id: event.call_id, name: event.name, arguments: '' })
      return event
    }
    if (event.type !== 'tool_arguments') return undefined
    const call = this.calls[event.call]
    if (call) call.arguments += event.text
    if (event.tokens !== undefined) this.#tokens.set(0, event.tokens)
    return event
  }

  #keep(branch: number, logprobs: readonly TokenLogprob[]): void {
    const waiting = this.#waiting.get(branch)
    if (waiting) waiting.push(...logprobs)
    else this.#waiting.set(branch, [...logprobs])
  }

  #lastLogprobs(): PlacedLogprob[] {
    const offset = this.#ordered.length
    const inOrder = this.#last.sort((a, b) => a.branch - b.branch)
    return inOrder.flatMap(({ rows }) => rows.map((row) => ({ ...row, offset })))
  }

  /** `end`: of the piece, in the choice's text. */
  #logprobsIn({ branch, to, text }: Piece, end: number): PlacedLogprob[] {
    const waiting = this.#waiting.get(branch) ?? []
    const later = waiting.findIndex(({ at }) => at >= to)
    const rows = waiting.splice(0, later === -1 ? waiting.length : later)
    // A joint may have changed the beginning of the piece, but never its end.
    return rows.map((row) => ({ ...row, offset: Math.max(end - text.length, end - (to - row.at)) }))
  }
}
