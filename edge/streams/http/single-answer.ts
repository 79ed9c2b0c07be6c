import type { AcceptedEvent, Usage } from '../../../shared/protocol/events.ts'
import { type Call, type CallPart, Choice } from './choice.ts'
import type { Streams } from './streams.ts'

/** More of what the model thinks. */
export interface ReasoningPart {
  readonly type: 'reasoning'
  readonly text: string
}

export type AnswerPart = string | ReasoningPart | CallPart

/** The answer of a call with one stream, for APIs without `n`. */
export class SingleAnswer {
  readonly accepted: AcceptedEvent
  /** In document order, as far as `parts` has been read. */
  text = ''
  /** The same of the reasoning in front of it. */
  reasoning = ''
  readonly #streams: Streams
  readonly #choice: Choice

  /** `stop`: as in the request of the stream. */
  constructor(streams: Streams, stop: readonly string[] = []) {
    const [accepted] = streams.accepted
    if (!accepted) throw new Error('no stream was started')
    this.accepted = accepted
    this.#streams = streams
    this.#choice = new Choice(accepted, stop)
  }

  /**
   * Reasoning and text in pieces, as they become final, and the calls of tools behind them; none is empty.
   * @throws AparError for a stream that fails.
   */
  async *parts(): AsyncGenerator<AnswerPart, void> {
    for await (const [, event] of this.#streams.events) {
      const { reasoning, text, call } = this.#choice.push(event)
      this.reasoning += reasoning
      if (reasoning !== '') yield { type: 'reasoning', text: reasoning }
      this.text += text
      if (text !== '') yield text
      if (call) yield call
    }
  }

  /** Reads to the end. */
  async whole(): Promise<void> {
    for await (const _ of this.parts());
  }

  /** The stop string that ended the answer. Valid after the end. */
  get stop(): string | undefined {
    return this.#choice.stop
  }

  /** The calls of tools, as far as `parts` has been read. */
  get calls(): readonly Call[] {
    return this.#choice.calls
  }

  /** Whether the answer ended by length. Valid after the end, as is `usage`. */
  get cut(): boolean {
    return this.#choice.finishReason === 'length'
  }

  /** The trace, where the request asked for one. Valid after the end. */
  get apar(): Choice['apar'] {
    return this.#choice.apar
  }

  /** @throws AparError when the stream was cut before its end. */
  get usage(): Usage {
    return this.#choice.usage
  }
}
