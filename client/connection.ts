import {
  CLOSE_ABNORMAL,
  CLOSE_BY_CALLER,
  CLOSE_NORMAL,
  CLOSE_REPLACED,
  CLOSE_SLOW_CLIENT,
} from '../shared/protocol/close-codes.ts'
import type { CutReason, MultiplexedServerFrame } from '../shared/protocol/multiplex.ts'
import type { GenerateRequest } from '../shared/protocol/request.ts'
import { API_KEY_SUBPROTOCOL_PREFIX, MULTIPLEX_SUBPROTOCOL } from '../shared/protocol/version.ts'
import { SOCKET_OPEN, type SocketConstructor, type SocketLike, socketConstructor } from './socket.ts'
import { BranchStream, type StreamOptions } from './stream.ts'
import { type Carrier, Lane } from './virtual-socket.ts'
import { watched } from './watched-socket.ts'

/** What a stream hears on a socket of its own. */
const CLOSE_CODES: Record<CutReason, number> = {
  slow_client: CLOSE_SLOW_CLIENT,
  replaced: CLOSE_REPLACED,
  lost: CLOSE_ABNORMAL,
}

export type ConnectionOptions = Pick<StreamOptions, 'baseUrl' | 'apiKey' | 'WebSocket'>

/**
 * One WebSocket for many streams. It is opened with the first stream, and again when it was lost: the streams go on where
 * they were cut. Close it when no more streams are wanted.
 * @throws TypeError when there is no WebSocket on this platform and none was given.
 */
export function openConnection(options: ConnectionOptions): Connection {
  return new Connection(options)
}

export class Connection {
  readonly #options: ConnectionOptions
  readonly #Lane: SocketConstructor
  readonly #Socket: SocketConstructor
  readonly #lanes = new Map<string, Lane>()
  #socket: SocketLike | undefined
  #added = 0
  #closed = false

  constructor(options: ConnectionOptions) {
    this.#options = options
    this.#Socket = watched(socketConstructor(options.WebSocket))
    const carrier: Carrier = {
      add: (lane) => this.#add(lane),
      remove: (id) => void this.#lanes.delete(id),
      send: (text) => this.#socket?.send(text),
    }
    this.#Lane = class extends Lane {
      constructor(url: string) {
        super(carrier, url)
      }
    }
  }

  /** As `openStream`. A socket carries 64 streams at a time; a further one fails with `socket_full`. */
  stream(request: GenerateRequest, more: Pick<StreamOptions, 'reconnectMs' | 'signal'> = {}): BranchStream {
    return new BranchStream({ ...this.#options, ...more, request, WebSocket: this.#Lane })
  }

  /** Ends the streams that have not ended, and those asked for later, with `connection_closed`; the edge cancels them. */
  close(): void {
    this.#closed = true
    this.#socket?.close(CLOSE_NORMAL)
    this.#endLanes(CLOSE_BY_CALLER)
  }

  #add(lane: Lane): string {
    const id = String(++this.#added)
    this.#lanes.set(id, lane)
    if (this.#closed) {
      queueMicrotask(() => lane.end(CLOSE_BY_CALLER))
      return id
    }
    this.#socket ??= this.#connect()
    if (this.#socket.readyState === SOCKET_OPEN) queueMicrotask(() => lane.open())
    return id
  }

  #connect(): SocketLike {
    const { baseUrl, apiKey } = this.#options
    const url = new URL('/v1/stream', baseUrl)
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:'
    const socket = new this.#Socket(url.href, [MULTIPLEX_SUBPROTOCOL, API_KEY_SUBPROTOCOL_PREFIX + apiKey])
    socket.addEventListener('open', () => {
      for (const lane of this.#lanes.values()) lane.open()
    })
    socket.addEventListener('message', ({ data }) => this.#onMessage(String(data)))
    socket.addEventListener('close', ({ code }) => {
      this.#socket = undefined
      this.#endLanes(code)
    })
    // Always followed by close.
    socket.addEventListener('error', () => {})
    return socket
  }

  #endLanes(code: number | undefined): void {
    for (const lane of [...this.#lanes.values()]) lane.end(code)
  }

  #onMessage(text: string): void {
    const frame: MultiplexedServerFrame = JSON.parse(text)
    // A keep-alive, or about a frame that this client does not send.
    if (!('id' in frame)) return
    const { id, ...event } = frame
    const lane = this.#lanes.get(id)
    if (event.type === 'cut') lane?.end(CLOSE_CODES[event.reason])
    else lane?.receive(event)
  }
}
