import { createParser } from 'eventsource-parser'

/** Reads server-sent events from bytes, wherever these were split. */
export class SseReader {
  readonly #decoder = new TextDecoder()
  readonly #parser

  /** `onData` gets the data of each event. */
  constructor(onData: (data: string) => void) {
    this.#parser = createParser({ onEvent: ({ data }) => onData(data) })
  }

  push(bytes: Uint8Array): void {
    this.#parser.feed(this.#decoder.decode(bytes, { stream: true }))
  }
}
