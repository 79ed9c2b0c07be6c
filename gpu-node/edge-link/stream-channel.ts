import { EventEmitter } from 'node:events'
import { CLOSE_NORMAL } from '../../shared/protocol/close-codes.ts'
import type { RequestSocket } from '../requests/request-socket.ts'

export interface ChannelWriter {
  /** Queues a frame; `written` is called when it has left this process. */
  send(text: string, written: () => void): void
  close(code: number): void
}

/** The channel of one stream on the socket of a dialled-in node, with the interface of a stream's own socket. */
export class StreamChannel extends EventEmitter implements RequestSocket {
  readonly #writer: ChannelWriter
  #bufferedAmount = 0
  #closed = false

  constructor(writer: ChannelWriter) {
    super()
    this.#writer = writer
  }

  /** UTF-16 code units of this channel that the shared socket has not written yet. */
  get bufferedAmount(): number {
    return this.#bufferedAmount
  }

  send(data: unknown): void {
    if (this.#closed) return
    const text = String(data)
    this.#bufferedAmount += text.length
    this.#writer.send(text, () => {
      this.#bufferedAmount -= text.length
    })
  }

  close(code: number = CLOSE_NORMAL): void {
    if (this.#closed) return
    this.#closed = true
    this.#writer.close(code)
    this.emit('close')
  }

  terminate(): void {
    this.close()
  }

  /** Answered locally: the shared socket has its own heartbeats. */
  ping(): void {
    this.emit('pong')
  }

  /** Called with a frame from the edge. */
  receive(text: string): void {
    if (!this.#closed) this.emit('message', text, false)
  }

  /** Called when the edge has closed the channel, or the shared socket has closed. */
  end(): void {
    if (this.#closed) return
    this.#closed = true
    this.emit('close')
  }
}
