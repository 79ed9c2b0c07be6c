import {
  CLOSE_ABNORMAL,
  CLOSE_BY_CALLER,
  CLOSE_NORMAL,
  CLOSE_REPLACED,
  CLOSE_SLOW_CLIENT,
} from '../shared/protocol/close-codes.ts'
import type { CutReason, MultiplexedServerFrame } from '../shared/protocol/multiplex.ts'
import type { GenerateRequest } from '../shared/protocol/types/request.ts'
import { API_KEY_SUBPROTOCOL_PREFIX, MULTIPLEX_SUBPROTOCOL } from '../shared/protocol/version.ts'
import { socketEndpoint } from './endpoint.ts'
import type { ConnectionOptions, StreamOptions } from './options.ts'
import { SOCKET_OPEN, type SocketConstructor, type SocketLike, socketConstructor } from './socket.ts'
import { BranchStream } from './stream.ts'
import { type Carrier, VirtualSocket } from './virtual-socket.ts'
import { watched } from './watched-socket.ts'

/** The close code that a stream on its own socket would get for the same reason. */
const CLOSE_CODES: Record<CutReason, number> = {
  slow_client: CLOSE_SLOW_CLIENT,
  replaced: CLOSE_REPLACED,
  lost: CLOSE_ABNORMAL,
}

/**
 * One WebSocket for many streams. It is opened with the first stream and reopened when the connection is lost:
 * each stream then resumes after its last event. Close it when no more streams are needed.
 * @throws TypeError when there is no WebSocket on this platform and none was given.
 */
export function openConnection(options: ConnectionOptions): Connection {
  return new Connection(options)
}

export class Connection {
  readonly #options: ConnectionOptions
  readonly #VirtualSocket: SocketConstructor
  readonly #Socket: SocketConstructor
  readonly #virtualSockets = new Map<string, VirtualSocket>()
  #socket: SocketLike | undefined
  #added = 0
  #closed = false

  constructor(options: ConnectionOptions) {
    this.#options = options
    this.#Socket = watched(socketConstructor(options.WebSocket))
    const carrier: Carrier = {
      add: (virtualSocket) => this.#add(virtualSocket),
      remove: (id) => void this.#virtualSockets.delete(id),
      send: (text) => this.#socket?.send(text),
    }
    this.#VirtualSocket = class extends VirtualSocket {
      constructor(url: string) {
        super(carrier, url)
      }
    }
  }

  /** Like `openStream`. A socket carries at most 64 streams at a time; one more fails with `socket_full`. */
  stream(request: GenerateRequest, more: Pick<StreamOptions, 'reconnectMs' | 'signal'> = {}): BranchStream {
    return new BranchStream({ ...this.#options, ...more, request, WebSocket: this.#VirtualSocket })
  }

  /** Fails all running and all later streams with `connection_closed`; the edge cancels the running ones. */
  close(): void {
    this.#closed = true
    this.#socket?.close(CLOSE_NORMAL)
    this.#closeVirtualSockets(CLOSE_BY_CALLER)
  }

  #add(virtualSocket: VirtualSocket): string {
    const id = String(++this.#added)
    this.#virtualSockets.set(id, virtualSocket)
    if (this.#closed) {
      queueMicrotask(() => virtualSocket.end(CLOSE_BY_CALLER))
      return id
    }
    this.#socket ??= this.#connect()
    if (this.#socket.readyState === SOCKET_OPEN) queueMicrotask(() => virtualSocket.open())
    return id
  }

  #connect(): SocketLike {
    const { baseUrl, apiKey } = this.#options
    const url = socketEndpoint(baseUrl)
    const socket = new this.#Socket(url.href, [MULTIPLEX_SUBPROTOCOL, API_KEY_SUBPROTOCOL_PREFIX + apiKey])
    socket.addEventListener('open', () => {
      for (const virtualSocket of this.#virtualSockets.values()) virtualSocket.open()
    })
    socket.addEventListener('message', ({ data }) => this.#onMessage(String(data)))
    socket.addEventListener('close', ({ code }) => {
      this.#socket = undefined
      this.#closeVirtualSockets(code)
    })
    // A close event always follows.
    socket.addEventListener('error', () => {})
    return socket
  }

  #closeVirtualSockets(code: number | undefined): void {
    for (const virtualSocket of [...this.#virtualSockets.values()]) virtualSocket.end(code)
  }

  #onMessage(text: string): void {
    const frame: MultiplexedServerFrame = JSON.parse(text)
    // A keep-alive, or an error about a frame without an id, which this client never sends.
    if (!('id' in frame)) return
    const { id, ...event } = frame
    const virtualSocket = this.#virtualSockets.get(id)
    if (event.type === 'cut') virtualSocket?.end(CLOSE_CODES[event.reason])
    else virtualSocket?.receive(event)
  }
}
