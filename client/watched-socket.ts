import { CLOSE_ABNORMAL, CLOSE_LOST } from '../shared/protocol/close-codes.ts'
import type { SocketConstructor, SocketLike } from './socket.ts'

/** The edge says something every 15 s. */
const SILENCE_MS = 40_000
const CLOSED = 3

/**
 * Sockets of `Socket` that count as lost once nothing has come for 40 s: TCP by itself may not notice for many minutes
 * that its other end is gone. After its `close` such a socket says nothing more.
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
  #heardAt = Date.now()
  #timer: ReturnType<typeof setTimeout> | undefined
  #closed = false

  constructor(socket: SocketLike) {
    this.#socket = socket
    socket.addEventListener('open', () => this.#emit('open'))
    socket.addEventListener('message', (event) => this.#emit('message', event))
    socket.addEventListener('close', (event) => this.#close(event.code))
    socket.addEventListener('error', () => this.#emit('error'))
    this.#watch(SILENCE_MS)
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
    this.#heardAt = Date.now()
    for (const listener of this.#listeners.get(type) ?? []) listener(event)
  }

  #close(code: number | undefined): void {
    clearTimeout(this.#timer)
    this.#emit('close', { code })
    this.#closed = true
  }

  #watch(ms: number): void {
    this.#timer = setTimeout(() => {
      const left = this.#heardAt + SILENCE_MS - Date.now()
      if (left > 0) return this.#watch(left)
      this.#close(CLOSE_ABNORMAL)
      // For the edge, should it hear of it after all: no goodbye, which would cancel what is about to be resumed.
      this.#socket.close(CLOSE_LOST)
    }, ms)
  }
}
