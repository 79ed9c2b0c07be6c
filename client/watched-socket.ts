import { CLOSE_ABNORMAL, CLOSE_LOST } from '../shared/protocol/close-codes.ts'
import type { SocketConstructor, SocketLike } from './socket.ts'

/** The edge sends at least a keep-alive every 15 s. */
const IDLE_TIMEOUT_MS = 40_000
const CLOSED = 3

/**
 * Sockets of class `Socket` with an idle timeout: a socket that has received nothing for 40 s counts as lost,
 * because TCP alone may need many minutes to detect a dead peer. It emits no events after its close event.
 */
export function watched(Socket: SocketConstructor): SocketConstructor {
  return class extends WatchedSocket {
    constructor(url: string, protocols: string[]) {
      super(new Socket(url, protocols))
    }
  }
}

type Listener = (event?: { code?: number | undefined; data?: unknown }) => void

class WatchedSocket implements SocketLike {
  readonly #socket: SocketLike
  readonly #listeners = new Map<string, Listener[]>()
  #lastEventAt = Date.now()
  #timer: ReturnType<typeof setTimeout> | undefined
  #closed = false

  constructor(socket: SocketLike) {
    this.#socket = socket
    socket.addEventListener('open', () => this.#emit('open'))
    socket.addEventListener('message', (event) => this.#emit('message', event))
    socket.addEventListener('close', (event) => this.#close(event.code))
    socket.addEventListener('error', () => this.#emit('error'))
    this.#watch(IDLE_TIMEOUT_MS)
  }

  get readyState(): number {
    return this.#closed ? CLOSED : this.#socket.readyState
  }

  send(data: string): void {
    this.#socket.send(data)
  }

  close(code?: number, reason?: string): void {
    this.#socket.close(code, reason)
  }

  addEventListener(type: string, listener: (event: never) => void): void {
    this.#listeners.set(type, [...(this.#listeners.get(type) ?? []), listener as Listener])
  }

  #emit(type: string, event?: Parameters<Listener>[0]): void {
    if (this.#closed) return
    this.#lastEventAt = Date.now()
    for (const listener of this.#listeners.get(type) ?? []) listener(event)
  }

  #close(code: number | undefined): void {
    clearTimeout(this.#timer)
    this.#emit('close', { code })
    this.#closed = true
  }

  #watch(ms: number): void {
    this.#timer = setTimeout(() => {
      const left = this.#lastEventAt + IDLE_TIMEOUT_MS - Date.now()
      if (left > 0) return this.#watch(left)
      this.#close(CLOSE_ABNORMAL)
      // If this close still reaches the edge, its code must not be 1000, which would cancel the streams to be resumed.
      this.#socket.close(CLOSE_LOST)
    }, ms)
  }
}
