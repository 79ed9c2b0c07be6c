import { AparError, toAparError } from '../../../shared/errors.ts'
import { parse, parseStrangersJson } from '../../../shared/parse.ts'
import {
  CLOSE_BAD_FRAMES,
  CLOSE_LOST,
  CLOSE_NORMAL,
  isIntentionalClose,
} from '../../../shared/protocol/close-codes.ts'
import { errorEvent } from '../../../shared/protocol/events.ts'
import {
  Addressed,
  MultiplexedFrame,
  type MultiplexedServerFrame,
  type ResumeFrame,
} from '../../../shared/protocol/multiplex.ts'
import { MAX_FRAME_CHARS } from '../../../shared/protocol/version.ts'
import { closeQuietly } from '../../close-quietly.ts'
import { clientText } from '../client-link.ts'
import { MultiplexedStream } from './multiplexed-stream.ts'

/** Streams that may run on one socket at the same time. */
export const MAX_REQUESTS = 64
const MAX_BAD_FRAMES = 256
const IDLE_MS = 300_000
/** As for the first frame of an ordinary socket. */
const FIRST_REQUEST_MS = 10_000
/** UTF-16 code units that may wait for the sockets of sessions to open, all streams together. */
const MAX_WAITING_CHARS = 4 * MAX_FRAME_CHARS

/** The stream to resume, and the last event that the client has. */
export type Resumed = Pick<ResumeFrame, 'stream' | 'after'>

export interface MultiplexedStreamsOptions {
  /** Opens a socket to a session, a new one or the one to resume. @throws AparError that is sent to the client. */
  readonly connect: (resume: Resumed | undefined) => Promise<WebSocket>
  readonly log: (error: unknown) => void
  /** Default 15 s. */
  readonly keepAliveMs?: number | undefined
  /** The socket is closed when it has had no running stream for this long. Default 5 min. */
  readonly idleMs?: number | undefined
  /** How long a client may take to begin its first request. Default 10 s. */
  readonly firstRequestMs?: number | undefined
}

/** The streams on one client socket (accepted before), each with a socket to its own session. */
export class MultiplexedStreams {
  readonly #socket: WebSocket
  readonly #options: MultiplexedStreamsOptions
  readonly #streams = new Map<string, MultiplexedStream>()
  readonly #keepAlive: ReturnType<typeof setInterval>
  #idle: ReturnType<typeof setTimeout> | null = null
  /** Streams that have not ended. */
  #running = 0
  #badFrames = 0
  #quiet = true
  #closed = false

  constructor(socket: WebSocket, options: MultiplexedStreamsOptions) {
    this.#socket = socket
    this.#options = options
    this.#keepAlive = setInterval(() => {
      if (this.#quiet) this.#send({ type: 'keep_alive' })
      this.#quiet = true
    }, options.keepAliveMs ?? 15_000)
    const { idleMs = IDLE_MS, firstRequestMs = FIRST_REQUEST_MS } = options
    this.#closeAfter(Math.min(idleMs, firstRequestMs))
    socket.addEventListener('message', ({ data }) => this.#onMessage(data))
    socket.addEventListener('close', ({ code }) => this.#onClose(isIntentionalClose(code)))
    socket.addEventListener('error', () => this.#onClose(false))
  }

  #onMessage(data: string | ArrayBuffer): void {
    if (this.#closed) return
    let id: string | undefined
    try {
      const value = parseStrangersJson(clientText(data))
      id = parse(Addressed, value).id
      this.#onFrame(parse(MultiplexedFrame, value))
      this.#badFrames = 0
    } catch (error) {
      this.#refuse(id, toAparError(error))
    }
  }

  #onFrame({ id, ...frame }: MultiplexedFrame): void {
    const stream = this.#streams.get(id)
    if (frame.type === 'generate' || frame.type === 'resume') {
      if (stream && !stream.ended)
        throw new AparError('invalid_request', 'a request with this id is running', { param: 'id' })
      if (this.#running >= MAX_REQUESTS)
        throw new AparError('socket_full', `a socket carries at most ${MAX_REQUESTS} requests at a time`)
      const waiting = [...this.#streams.values()].reduce((sum, { waitingChars }) => sum + waitingChars, 0)
      if (waiting > MAX_WAITING_CHARS)
        throw new AparError('overloaded', 'too much data waits for requests that are not connected yet')
    }
    if (frame.type === 'resume') this.#open(id, { stream: frame.stream, after: frame.after })
    else if (frame.type === 'generate') this.#open(id, undefined).send(frame)
    // An unknown id: the stream has ended while the client was sending.
    else stream?.send(frame)
  }

  #open(id: string, resume: Resumed | undefined): MultiplexedStream {
    clearTimeout(this.#idle)
    // A stream that has ended, but whose last event was not acknowledged.
    this.#streams.get(id)?.close(CLOSE_LOST)
    const stream: MultiplexedStream = new MultiplexedStream({
      connect: () => this.#options.connect(resume),
      after: resume?.after ?? -1,
      onFrame: (frame) => {
        if (frame.type !== 'keep_alive') this.#send({ id, ...frame })
      },
      onEnd: () => {
        this.#running--
        if (this.#running === 0) this.#closeAfter(this.#options.idleMs ?? IDLE_MS)
      },
      onClose: () => {
        if (this.#streams.get(id) === stream) this.#streams.delete(id)
      },
      log: this.#options.log,
    })
    this.#running++
    this.#streams.set(id, stream)
    return stream
  }

  /**
   * Sends the error of a bad frame. It ends the stream with that id; without an id it is about the socket, and for the
   * client's log. Other streams continue.
   */
  #refuse(id: string | undefined, error: AparError): void {
    const stream = id === undefined ? undefined : this.#streams.get(id)
    if (stream && !stream.ended) {
      stream.fail(error)
    } else if (id !== undefined) {
      this.#send({ id, ...errorEvent(error, 0) })
    } else {
      const { code, message, param } = error
      this.#send({ type: 'error', code, message, param: param ?? null })
    }
    // A client that keeps sending bad frames may not read the errors either.
    if (++this.#badFrames >= MAX_BAD_FRAMES) this.#close(CLOSE_BAD_FRAMES, 'too many bad frames')
  }

  /** Unless a request begins before. */
  #closeAfter(ms: number): void {
    if (this.#closed) return
    clearTimeout(this.#idle)
    this.#idle = setTimeout(() => this.#close(CLOSE_NORMAL, 'idle'), ms)
  }

  #close(code: number, reason: string): void {
    closeQuietly(this.#socket, code, reason)
    this.#onClose(false)
  }

  #onClose(intended: boolean): void {
    if (this.#closed) return
    this.#closed = true
    clearInterval(this.#keepAlive)
    clearTimeout(this.#idle)
    for (const stream of [...this.#streams.values()]) stream.close(intended ? CLOSE_NORMAL : CLOSE_LOST)
    closeQuietly(this.#socket)
  }

  #send(frame: MultiplexedServerFrame): void {
    if (this.#closed) return
    this.#quiet = false
    try {
      this.#socket.send(JSON.stringify(frame))
    } catch {
      // The socket is closed; its close event follows.
    }
  }
}
