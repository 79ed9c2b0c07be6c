import { EventEmitter } from 'node:events'
import { CLOSE_NORMAL } from '../../shared/protocol/close-codes.ts'
import type { RequestSocket } from '../requests/request-socket.ts'

export interface ChannelWriter {
  /** Queues a frame; `written` is called once it has left this process. */
  send(text: string, written: () => void): void
  close(code: number): void
}

/** One stream on the socket of a node that has dialled in; to the code that serves it, a socket of its own. */
export class StreamChannel extends EventEmitter implements RequestSocket {
  readonly #writer: ChannelWriter
  #bufferedAmount = 0
  #closed = false

  constructor(writer: ChannelWriter) {
    super()
    this.#writer = writer
  }

  /** UTF-16 code units of this channel that wait for the shared socket. */
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

  /** The shared socket has heart-beats of its own. */
  ping(): void {
    this.emit('pong')
  }

  /** A frame from the edge. */
  receive(text: string): void {
    if (!this.#closed) this.emit('message', text, false)
  }

  /** The edge has closed the channel, or the shared socket is gone. */
  end(): void {
    if (this.#closed) return
    this.#closed = true
    this.emit('close')
  }
}
