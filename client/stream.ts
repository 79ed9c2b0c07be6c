import { BranchTree, joined, OrderedText } from '../shared/branch-tree.ts'
import { AparError } from '../shared/errors.ts'
import { EventQueue } from '../shared/event-queue.ts'
import { CLOSE_BY_CALLER, CLOSE_LOST, CLOSE_NORMAL, CLOSE_REPLACED } from '../shared/protocol/close-codes.ts'
import { expand } from '../shared/protocol/deltas.ts'
import type { ServerFrame } from '../shared/protocol/events.ts'
import type { ClientFrame } from '../shared/protocol/frames.ts'
import type { StreamEvent } from '../shared/protocol/types/events.ts'
import type { TraceStep } from '../shared/protocol/types/trace.ts'
import { API_KEY_SUBPROTOCOL_PREFIX, SUBPROTOCOL } from '../shared/protocol/version.ts'
import { Arrivals } from './arrivals.ts'
import { socketEndpoint } from './endpoint.ts'
import { explainRefusal } from './explain.ts'
import { Growth } from './growth.ts'
import type { BranchStreamOptions, ResumeOptions, StreamOptions, StreamPosition } from './options.ts'
import { SOCKET_OPEN, type SocketConstructor, type SocketLike, socketConstructor } from './socket.ts'
import { watched } from './watched-socket.ts'

const RECONNECT_MS = 25_000
const FIRST_BACKOFF_MS = 100
const MAX_BACKOFF_MS = 3_000

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

/**
 * The events of one stream; they can be read once, and leaving their loop early cancels the stream. Any number of loops may
 * read {@link texts} and {@link branchText}. When the stream fails, each loop throws an AparError.
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
  readonly #arrivals: Arrivals
  /** When the connection was lost, in ms; undefined while connected. */
  #disconnectedAt: number | undefined
  /** Sent again on every new connection: the connection may have broken before the frame arrived. */
  readonly #cancels: ClientFrame[] = []
  readonly #events = new EventQueue<StreamEvent>()
  readonly #growth = new Growth()
  readonly #finished: Promise<void>
  #settle: (error?: Error) => void = () => {}
  #opened = false

  constructor(options: BranchStreamOptions, position?: StreamPosition) {
    this.#options = options
    this.#arrivals = new Arrivals(position?.after ?? -1)
    if (position) {
      this.#stream = position.stream
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
    return this.#arrivals.lastSeq
  }

  /**
   * The loop has got all events up to {@link lastSeq}: only then is this number the position behind what the loop has. (A
   * frame can bring several events, and only its last number can be resumed from.)
   */
  get caughtUp(): boolean {
    return this.#arrivals.allTaken
  }

  /**
   * Stops reading, but does not cancel: for 30 s the stream can be resumed elsewhere (`resumeStream`). The loop over the
   * events ends without an error.
   */
  detach(): void {
    if (this.#growth.ended) return
    this.#growth.end()
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

  /**
   * The answer in document order, from its beginning: each piece as soon as no other text can come before it. Leaving the
   * loop cancels nothing. A resumed stream does not know its request, so not the stop strings of `stop_scope: 'document'`
   * either: what lies behind one is left out by {@link text} only.
   */
  async *texts(): AsyncGenerator<string, void, undefined> {
    const { stop, stop_scope } = this.#options.request ?? {}
    const text = new OrderedText('kept', stop_scope === 'document' ? stop : [], this.tree)
    const more = (ended: boolean) => joined(text.read(ended))
    yield* this.#growth.read(more, () => false)
  }

  /**
   * The own text of one branch, from its beginning, without its children's. Waits for a branch that does not exist yet; it
   * ends with the branch. Leaving the loop cancels nothing.
   */
  async *branchText(branch: number): AsyncGenerator<string, void, undefined> {
    let length = 0
    const more = () => {
      const text = this.tree.branch(branch)?.text.slice(length) ?? ''
      length += text.length
      return text
    }
    // All branches end with `error` when the stream fails.
    yield* this.#growth.read(more, () => !['error', undefined].includes(this.tree.branch(branch)?.reason))
  }

  [Symbol.asyncIterator](): AsyncIterator<StreamEvent, undefined> {
    return {
      next: async () => {
        this.#arrivals.reading = true
        const result = await this.#events.next()
        if (!result.done) this.#arrivals.take()
        this.#acknowledge()
        return result
      },
      return: async () => {
        this.#arrivals.reading = false
        if (!this.#growth.ended) this.cancel()
        return { value: undefined, done: true }
      },
    }
  }

  readonly #onAbort = (): void => this.cancel()

  #connect(): SocketLike {
    const url = socketEndpoint(this.#options.baseUrl)
    url.searchParams.set('flow', 'ack')
    if (this.#stream !== undefined) {
      url.searchParams.set('stream', this.#stream)
      url.searchParams.set('after', String(this.lastSeq))
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
    if (this.#growth.ended) {
      this.#socket.close(CLOSE_NORMAL)
      return
    }
    const { request } = this.#options
    if (!this.#opened && request) this.#send({ type: 'generate', ...request })
    this.#opened = true
    for (const frame of this.#cancels) this.#send(frame)
  }

  #onMessage(data: unknown): void {
    if (this.#growth.ended) return
    this.#disconnectedAt = undefined
    try {
      const frame: ServerFrame = JSON.parse(String(data))
      if (frame.type === 'keep_alive') return
      const events = frame.type === 'deltas' ? expand(frame) : [frame]
      this.#arrivals.arrive(frame.type === 'deltas' ? frame.first : frame.seq, frame.seq, events.length)
      for (const event of events) this.#onEvent(event)
      this.#acknowledge()
      this.#growth.announce()
    } catch (cause) {
      this.#end(
        new AparError('internal_error', 'the edge sent a frame that does not belong to this protocol', {
          cause,
        }),
      )
      this.#socket.close()
    }
  }

  #acknowledge(): void {
    const seq = this.#arrivals.due()
    if (seq !== undefined) this.#send({ type: 'ack', seq })
  }

  #onEvent(event: StreamEvent): void {
    this.tree.apply(event)
    if (event.type === 'error') {
      this.#end(new AparError(event.code, event.message, { param: event.param ?? undefined }))
      return
    }
    if (event.type === 'accepted') this.#stream = event.stream
    if (event.type === 'trace') this.trace.push(...event.steps)
    this.#events.push(event)
    if (event.type === 'done') this.#end()
  }

  async #onClose(code: number | undefined): Promise<void> {
    if (this.#growth.ended) return
    const { baseUrl, apiKey, reconnectMs = RECONNECT_MS } = this.#options
    if (code === CLOSE_BY_CALLER)
      return this.#end(
        new AparError('connection_closed', 'the connection was closed before the stream ended'),
      )
    if (code === CLOSE_REPLACED)
      return this.#end(new AparError('stream_replaced', 'another connection reads this stream now'))
    if (!this.#opened) return this.#end(await explainRefusal(baseUrl, apiKey, this.#stream))
    const now = Date.now()
    this.#disconnectedAt ??= now
    if (this.#stream === undefined || now - this.#disconnectedAt >= reconnectMs)
      return this.#end(new AparError('gpu_node_lost', 'the connection was lost before the stream ended'))
    // Jitter: when an edge restarts, all its clients reconnect at the same time.
    await sleep(Math.random() * Math.min(MAX_BACKOFF_MS, FIRST_BACKOFF_MS + (now - this.#disconnectedAt)))
    if (!this.#growth.ended) this.#socket = this.#connect()
  }

  #end(error?: Error): void {
    if (this.#growth.ended) return
    this.#growth.end(error)
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
    if (!this.#growth.ended && this.#socket.readyState === SOCKET_OPEN)
      this.#socket.send(JSON.stringify(frame))
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
