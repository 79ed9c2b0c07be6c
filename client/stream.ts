import { BranchTree } from '../shared/branch-tree.ts'
import { AparError } from '../shared/errors.ts'
import type { StreamEvent } from '../shared/protocol/events.ts'
import type { ClientFrame } from '../shared/protocol/frames.ts'
import type { GenerateRequest } from '../shared/protocol/request.ts'
import { API_KEY_SUBPROTOCOL_PREFIX, SUBPROTOCOL } from '../shared/protocol/version.ts'
import { EventQueue } from './event-queue.ts'
import { explainRefusal } from './explain.ts'
import { SOCKET_OPEN, type SocketConstructor, type SocketLike, socketConstructor } from './socket.ts'

export interface StreamOptions {
  /** The edge's address: `https://host` or `http://host:port`. */
  baseUrl: string
  apiKey: string
  request: GenerateRequest
  /** Cancels the stream: it ends with `done`, reason `abort`. */
  signal?: AbortSignal | undefined
  /** For platforms without one. Node 20: the `ws` package's. */
  WebSocket?: SocketConstructor | undefined
}

/**
 * Opens a stream of branches. Read it with `for await`, or wait for {@link BranchStream.text}.
 * @throws TypeError when there is no WebSocket on this platform and none was given, or when `baseUrl` is no URL.
 */
export function openStream(options: StreamOptions): BranchStream {
  return new BranchStream(options)
}

/**
 * The events of one stream; read them once. A stream that fails makes the loop throw an AparError. Leaving the loop
 * early cancels the stream.
 */
export class BranchStream implements AsyncIterable<StreamEvent> {
  /** All branches so far, up to date with the last event that arrived, read or not. */
  readonly tree = new BranchTree()
  readonly #options: StreamOptions
  readonly #socket: SocketLike
  readonly #events = new EventQueue<StreamEvent>()
  readonly #finished: Promise<void>
  #settle: (error?: Error) => void = () => {}
  #opened = false
  #cancelled = false
  #over = false

  constructor(options: StreamOptions) {
    this.#options = options
    const Socket = socketConstructor(options.WebSocket)
    const url = new URL('/v1/stream', options.baseUrl)
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:'
    this.#finished = new Promise((resolve, reject) => {
      this.#settle = (error) => (error ? reject(error) : resolve())
    })
    // Who reads the events hears of a failure there.
    this.#finished.catch(() => {})
    this.#socket = new Socket(url.href, [SUBPROTOCOL, API_KEY_SUBPROTOCOL_PREFIX + options.apiKey])
    this.#socket.addEventListener('open', () => this.#onOpen())
    this.#socket.addEventListener('message', ({ data }) => this.#onMessage(data))
    this.#socket.addEventListener('close', () => void this.#onClose())
    // Always followed by close.
    this.#socket.addEventListener('error', () => {})
    options.signal?.addEventListener('abort', this.#onAbort)
    if (options.signal?.aborted) this.cancel()
  }

  /** Ends the stream; what was generated so far stands, `done` follows with reason `abort`. */
  cancel(): void {
    this.#cancelled = true
    this.#send({ type: 'cancel' })
  }

  /** Ends one branch and those below it; the others go on. Branch 0 ends the stream. */
  cancelBranch(branch: number): void {
    if (branch === 0) this.cancel()
    else this.#send({ type: 'cancel_branch', branch })
  }

  /** The whole answer in document order, once it is complete. Rejects with an AparError when the stream fails. */
  async text(): Promise<string> {
    await this.#finished
    return this.tree.text()
  }

  [Symbol.asyncIterator](): AsyncIterator<StreamEvent, undefined> {
    return {
      next: () => this.#events.next(),
      return: async () => {
        if (!this.#over) this.cancel()
        return { value: undefined, done: true }
      },
    }
  }

  readonly #onAbort = (): void => this.cancel()

  #onOpen(): void {
    this.#opened = true
    const generate: ClientFrame = { type: 'generate', ...this.#options.request }
    this.#send(generate)
    if (this.#cancelled) this.#send({ type: 'cancel' })
  }

  #onMessage(data: unknown): void {
    if (this.#over) return
    let event: StreamEvent
    try {
      event = JSON.parse(String(data))
      this.tree.apply(event)
    } catch (cause) {
      this.#end(
        new AparError('internal_error', 'the edge sent a frame that is not of this protocol', { cause }),
      )
      this.#socket.close()
      return
    }
    if (event.type === 'error') {
      this.#end(new AparError(event.code, event.message, { param: event.param ?? undefined }))
    } else {
      this.#events.push(event)
      if (event.type === 'done') this.#end()
    }
  }

  async #onClose(): Promise<void> {
    if (this.#over) return
    const { baseUrl, apiKey } = this.#options
    if (this.#opened)
      this.#end(new AparError('gpu_node_lost', 'the connection was lost before the stream ended'))
    else this.#end(await explainRefusal(baseUrl, apiKey))
  }

  #end(error?: Error): void {
    if (this.#over) return
    this.#over = true
    this.#options.signal?.removeEventListener('abort', this.#onAbort)
    this.#events.end(error)
    this.#settle(error)
    if (this.#opened) this.#socket.close(1000)
  }

  #send(frame: ClientFrame): void {
    if (!this.#over && this.#socket.readyState === SOCKET_OPEN) this.#socket.send(JSON.stringify(frame))
  }
}
