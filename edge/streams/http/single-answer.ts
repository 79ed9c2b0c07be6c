import type { AcceptedEvent, Usage } from '../../../shared/protocol/events.ts'
import { Choice } from './choice.ts'
import type { Streams } from './streams.ts'

/** The answer of a call with one stream, for APIs without `n`. */
export class SingleAnswer {
  readonly accepted: AcceptedEvent
  /** In document order, as far as `pieces` has been read. */
  text = ''
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

  /** The text in pieces, as they become final; none is empty. @throws AparError for a stream that fails. */
  async *pieces(): AsyncGenerator<string, void> {
    for await (const [, event] of this.#streams.events) {
      const { text } = this.#choice.push(event)
      this.text += text
      if (text !== '') yield text
    }
  }

  /** Reads to the end. */
  async whole(): Promise<void> {
    for await (const _ of this.pieces());
  }

  /** The stop string that ended the answer. Valid after the end. */
  get stop(): string | undefined {
    return this.#choice.stop
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
