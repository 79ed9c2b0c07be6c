import { AparError } from '../shared/errors.ts'
import type { ServerFrame } from '../shared/protocol/events.ts'
import { MAX_FRAME_CHARS } from '../shared/protocol/version.ts'
import { SOCKET_OPEN, type SocketLike } from './socket.ts'

const CONNECTING = 0
const CLOSED = 3

/** The real socket under the virtual sockets. */
export interface Carrier {
  /**
   * Returns the id of the virtual socket. Calls its `open` when the real socket is open, never before `add` has
   * returned.
   */
  add(virtualSocket: VirtualSocket): string
  remove(id: string): void
  send(text: string): void
}

type Listener = (event: { code?: number | undefined; data: unknown }) => void

/** One request on a shared socket, with the interface of a WebSocket: a stream uses it like a socket of its own. */
export class VirtualSocket implements SocketLike {
  readonly #carrier: Carrier
  readonly #query: URLSearchParams
  readonly #id: string
  readonly #listeners = new Map<string, Listener[]>()
  #state = CONNECTING

  /** `url`: the same as for a real socket; `stream` and `after` of its query are sent as a `resume` frame. */
  constructor(carrier: Carrier, url: string) {
    this.#carrier = carrier
    this.#query = new URL(url).searchParams
    this.#id = carrier.add(this)
  }

  get readyState(): number {
    return this.#state
  }

  addEventListener(type: string, listener: (...args: never[]) => void): void {
    this.#listeners.set(type, [...(this.#listeners.get(type) ?? []), listener as Listener])
  }

  open(): void {
    if (this.#state !== CONNECTING) return
    this.#state = SOCKET_OPEN
    const stream = this.#query.get('stream')
    const after = Number(this.#query.get('after') ?? -1)
    if (stream !== null) this.send(JSON.stringify({ type: 'resume', stream, after }))
    this.#emit('open', { data: undefined })
  }

  /** `text` is a frame without an id. */
  send(text: string): void {
    if (this.#state !== SOCKET_OPEN) return
    const frame = JSON.stringify({ id: this.#id, ...JSON.parse(text) })
    if (frame.length <= MAX_FRAME_CHARS) {
      this.#carrier.send(frame)
      return
    }
    // The edge does not parse a frame that is too long, so its error would carry no id.
    const { code, message } = new AparError(
      'body_too_large',
      `a frame may have ${MAX_FRAME_CHARS} characters`,
    )
    this.receive({ type: 'error', seq: 0, code, message, param: null })
  }

  /** A frame without its id. */
  receive(frame: ServerFrame): void {
    if (frame.type === 'done' || frame.type === 'error') {
      // The edge keeps the stream until the client has acknowledged its last event.
      this.send(JSON.stringify({ type: 'ack', seq: frame.seq }))
      this.#close()
    }
    this.#emit('message', { data: JSON.stringify(frame) })
  }

  /** Cancels the request if it still runs, and sends no close event. */
  close(): void {
    this.send('{"type":"cancel"}')
    this.#close()
  }

  /** Closed by the other side, or with the real socket. */
  end(code: number | undefined): void {
    if (this.#state === CLOSED) return
    this.#close()
    this.#emit('close', { code, data: undefined })
  }

  #close(): void {
    this.#state = CLOSED
    this.#carrier.remove(this.#id)
  }

  #emit(type: string, event: Parameters<Listener>[0]): void {
    for (const listener of this.#listeners.get(type) ?? []) listener(event)
  }
}
