import { BranchTree } from '../shared/branch-tree.ts'
import { AparError } from '../shared/errors.ts'
import { EventQueue } from '../shared/event-queue.ts'
import { CLOSE_BY_CALLER, CLOSE_LOST, CLOSE_NORMAL, CLOSE_REPLACED } from '../shared/protocol/close-codes.ts'
import { expand } from '../shared/protocol/deltas.ts'
import type { ServerFrame, StreamEvent } from '../shared/protocol/events.ts'
import type { ClientFrame } from '../shared/protocol/frames.ts'
import type { GenerateRequest } from '../shared/protocol/request.ts'
import type { TraceStep } from '../shared/protocol/trace.ts'
import { API_KEY_SUBPROTOCOL_PREFIX, SUBPROTOCOL } from '../shared/protocol/version.ts'
import { explainRefusal } from './explain.ts'
import { SOCKET_OPEN, type SocketConstructor, type SocketLike, socketConstructor } from './socket.ts'
import { watched } from './watched-socket.ts'

/** Must stay well below 256, the most unacknowledged events that the edge sends. */
const ACK_EVERY = 32
const RECONNECT_MS = 25_000
const FIRST_BACKOFF_MS = 100
const MAX_BACKOFF_MS = 3_000

export interface StreamOptions {
  /** The edge's address: `https://host` or `http://host:port`. */
  baseUrl: string
  apiKey: string
  request: GenerateRequest
  /**
   * For how long the client tries to reconnect and resume after the connection is lost, in ms. Default 25 s, a
   * little less than the time for which the edge keeps a stream; 0 turns reconnecting off.
   */
  reconnectMs?: number | undefined
  /** Aborting it cancels the stream, which ends with `done`, reason `abort`. */
  signal?: AbortSignal | undefined
  /** For platforms without WebSocket, for example Node 20: pass the `ws` package's. */
  WebSocket?: SocketConstructor | undefined
}

/** What another {@link BranchStream}, perhaps of an earlier page, has read of a stream. */
export interface StreamPosition {
  /** Its {@link BranchStream.id}. */
  stream: string
  /** Its {@link BranchStream.lastSeq} while it was `caughtUp`: the stream goes on behind this event. */
  after: number
  /** All events up to there; the tree begins with them. They are not delivered again. */
  events: readonly StreamEvent[]
}

export type ResumeOptions = Omit<StreamOptions, 'request'> & { position: StreamPosition }

/**
 * Opens a stream of branches. Read it with `for await`, or wait for {@link BranchStream.text}.
 * @throws TypeError when the platform has no WebSocket and none was given, or when `baseUrl` is not a URL.
 */
export function openStream(options: StreamOptions): BranchStream {
  return new BranchStream({ ...options, WebSocket: watched(socketConstructor(options.WebSocket)) })
}

/**
 * Goes on with a stream that {@link BranchStream.detach} has left, or that a page lost when it was reloaded. The edge
 * keeps it for 30 s; after that, reading it throws an AparError `stream_not_found`. Errors as for `openStream`.
 */
export function resumeStream({ position, ...options }: ResumeOptions): BranchStream {
  return new BranchStream(
    { ...options, request: undefined, WebSocket: watched(socketConstructor(options.WebSocket)) },
    position,
  )
}

/** `request`: undefined for a stream that is resumed. */
type BranchStreamOptions = Omit<StreamOptions, 'request'> & { request: GenerateRequest | undefined }

/**
 * The events of one stream; they can be read once. When the stream fails, the loop throws an AparError. Leaving
 * the loop early cancels the stream.
 */
export class BranchStream implements AsyncIterable<StreamEvent> {
  /** All branches so far. Includes every event that has arrived, also those not read yet. */
  readonly tree = new BranchTree()
  /** What the engine did so far, step by step, for a request with `trace`. */
  readonly trace: TraceStep[] = []
  readonly #options: BranchStreamOptions
  readonly #Socket: SocketConstructor
  #socket: SocketLike
  /** Name of the stream; undefined until `accepted` has arrived. */
  #stream: string | undefined
  #lastSeq = -1
  /** Numbers of events that were put into the queue, and that the loop took out of it. */
  #arrived = 0
  #delivered = 0
  #acked = -1
  /** When the connection was lost, in ms; undefined while connected. */
  #disconnectedAt: number | undefined
  /** Sent again on every new connection: the connection may have broken before the frame arrived. */
  readonly #cancels: ClientFrame[] = []
  readonly #events = new EventQueue<StreamEvent>()
  readonly #finished: Promise<void>
  #settle: (error?: Error) => void = () => {}
  #opened = false
  #ended = false

  constructor(options: BranchStreamOptions, position?: StreamPosition) {
    this.#options = options
    if (position) {
      this.#stream = position.stream
      this.#lastSeq = position.after
      this.#acked = position.after
      for (const event of position.events) this.tree.apply(event)
    }
    this.#Socket = socketConstructor(options.WebSocket)
    this.#finished = new Promise((resolve, reject) => {
      this.#settle = (error) => (error ? reject(error) : resolve())
    })
    // A reader of the events gets the error from the loop: without this, it would also be an unhandled rejection.
    this.#finished.catch(() => {})
    this.#socket = this.#connect()
    options.signal?.addEventListener('abort', this.#onAbort)
    if (options.signal?.aborted) this.cancel()
  }

  /** Name of the stream, with which it can be resumed; undefined until it is accepted. */
  get id(): string | undefined {
    return this.#stream
  }

  /** Number of the last event that has arrived; -1 before the first one. */
  get lastSeq(): number {
    return this.#lastSeq
  }

  /**
   * The loop has got all events up to {@link lastSeq}: only then is this number the position behind what the loop has. (A
   * frame can bring several events, and only its last number can be resumed from.)
   */
  get caughtUp(): boolean {
    return this.#delivered === this.#arrived
  }

  /**
   * Stops reading, but does not cancel: for 30 s the stream can be resumed elsewhere (`resumeStream`). The loop over the
   * events ends without an error.
   */
  detach(): void {
    if (this.#ended) return
    this.#ended = true
    this.#options.signal?.removeEventListener('abort', this.#onAbort)
    this.#events.end()
    this.#settle(new AparError('connection_closed', 'the stream was left before it ended'))
    this.#socket.close(CLOSE_LOST)
  }

  /** Ends the stream: text generated so far stays valid, and `done` follows with reason `abort`. */
  cancel(): void {
    this.#sendOnEveryConnection({ type: 'cancel' })
  }

  /** Ends one branch and its descendants; other branches continue. Branch 0 ends the stream. */
  cancelBranch(branch: number): void {
    if (branch === 0) this.cancel()
    else this.#sendOnEveryConnection({ type: 'cancel_branch', branch })
  }

  /** The whole answer in document order, once it is complete. Rejects with an AparError when the stream fails. */
  async text(): Promise<string> {
    await this.#finished
    return this.tree.text()
  }

  [Symbol.asyncIterator](): AsyncIterator<StreamEvent, undefined> {
    return {
      next: async () => {
        const result = await this.#events.next()
        if (!result.done) this.#delivered++
        return result
      },
      return: async () => {
        if (!this.#ended) this.cancel()
        return { value: undefined, done: true }
      },
    }
  }

  readonly #onAbort = (): void => this.cancel()

  #connect(): SocketLike {
    const url = new URL('/v1/stream', this.#options.baseUrl)
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:'
    url.searchParams.set('flow', 'ack')
    if (this.#stream !== undefined) {
      url.searchParams.set('stream', this.#stream)
      url.searchParams.set('after', String(this.#lastSeq))
    }
    const socket = new this.#Socket(url.href, [
      SUBPROTOCOL,
      API_KEY_SUBPROTOCOL_PREFIX + this.#options.apiKey,
    ])
    socket.addEventListener('open', () => this.#onOpen())
    socket.addEventListener('message', ({ data }) => this.#onMessage(data))
    socket.addEventListener('close', ({ code }) => void this.#onClose(code))
    // A close event always follows.
    socket.addEventListener('error', () => {})
    return socket
  }

  #onOpen(): void {
    if (this.#ended) {
      this.#socket.close(CLOSE_NORMAL)
      return
    }
    const { request } = this.#options
    if (!this.#opened && request) this.#send({ type: 'generate', ...request })
    this.#opened = true
    for (const frame of this.#cancels) this.#send(frame)
  }

  #onMessage(data: unknown): void {
    if (this.#ended) return
    this.#disconnectedAt = undefined
    try {
      const frame: ServerFrame = JSON.parse(String(data))
      if (frame.type === 'keep_alive') return
      if (frame.type === 'deltas') {
        this.#advance(frame.first, frame.seq)
        for (const event of expand(frame)) this.#onEvent(event)
      } else {
        this.#advance(frame.seq, frame.seq)
        this.#onEvent(frame)
      }
    } catch (cause) {
      this.#end(
        new AparError('internal_error', 'the edge sent a frame that does not belong to this protocol', {
          cause,
        }),
      )
      this.#socket.close()
    }
  }

  /** Records that events `first` to `last` have arrived. @throws Error when they are not the next ones. */
  #advance(first: number, last: number): void {
    if (first !== this.#lastSeq + 1) throw new Error(`event ${first} after ${this.#lastSeq}`)
    this.#lastSeq = last
    if (last - this.#acked < ACK_EVERY) return
    this.#acked = last
    this.#send({ type: 'ack', seq: last })
  }

  #onEvent(event: StreamEvent): void {
    this.tree.apply(event)
    if (event.type === 'error') {
      this.#end(new AparError(event.code, event.message, { param: event.param ?? undefined }))
      return
    }
    if (event.type === 'accepted') this.#stream = event.stream
    if (event.type === 'trace') this.trace.push(...event.steps)
    this.#arrived++
    this.#events.push(event)
    if (event.type === 'done') this.#end()
  }

  async #onClose(code: number | undefined): Promise<void> {
    if (this.#ended) return
    const { baseUrl, apiKey, reconnectMs = RECONNECT_MS } = this.#options
    if (code === CLOSE_BY_CALLER)
      return this.#end(
        new AparError('connection_closed', 'the connection was closed before the stream ended'),
      )
    if (code === CLOSE_REPLACED)
      return this.#end(new AparError('stream_replaced', 'another connection reads this stream now'))
    if (!this.#opened) return this.#end(await explainRefusal(baseUrl, apiKey))
    const now = Date.now()
    this.#disconnectedAt ??= now
    if (this.#stream === undefined || now - this.#disconnectedAt >= reconnectMs)
      return this.#end(new AparError('gpu_node_lost', 'the connection was lost before the stream ended'))
    // Jitter: when an edge restarts, all its clients reconnect at the same time.
    await sleep(Math.random() * Math.min(MAX_BACKOFF_MS, FIRST_BACKOFF_MS + (now - this.#disconnectedAt)))
    if (!this.#ended) this.#socket = this.#connect()
  }

  #end(error?: Error): void {
    if (this.#ended) return
    this.#ended = true
    this.#options.signal?.removeEventListener('abort', this.#onAbort)
    this.#events.end(error)
    this.#settle(error)
    if (this.#socket.readyState === SOCKET_OPEN) this.#socket.close(CLOSE_NORMAL)
  }

  #sendOnEveryConnection(frame: ClientFrame): void {
    this.#cancels.push(frame)
    this.#send(frame)
  }

  #send(frame: ClientFrame): void {
    if (!this.#ended && this.#socket.readyState === SOCKET_OPEN) this.#socket.send(JSON.stringify(frame))
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
