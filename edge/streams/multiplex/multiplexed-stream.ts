import { AparError, toAparError } from '../../../shared/errors.ts'
import {
  CLOSE_LOST,
  CLOSE_NORMAL,
  CLOSE_REPLACED,
  CLOSE_SLOW_CLIENT,
} from '../../../shared/protocol/close-codes.ts'
import { errorEvent, isTerminal, type ServerFrame } from '../../../shared/protocol/events.ts'
import type { ClientFrame } from '../../../shared/protocol/frames.ts'
import type { CutFrame, CutReason } from '../../../shared/protocol/multiplex.ts'
import { closeQuietly } from '../../close-quietly.ts'
import { isForOperator } from '../../log.ts'

type CloseCode = typeof CLOSE_NORMAL | typeof CLOSE_LOST

export interface MultiplexedStreamOptions {
  /** Opens a socket to the stream's session, not accepted yet. @throws AparError that is sent to the client. */
  readonly connect: () => Promise<WebSocket>
  /** The client has all events up to this one; -1 for a new stream. */
  readonly after: number
  readonly onFrame: (frame: ServerFrame | CutFrame) => void
  /** The last event, or a `cut`, was sent: the client may use the id again. */
  readonly onEnd: () => void
  /** The stream sends nothing more and accepts no frames. */
  readonly onClose: () => void
  readonly log: (error: unknown) => void
}

/** How long a client may take to acknowledge the last event. Until then it may resume to get it again. */
const LAST_ACK_MS = 30_000
/** Frames that may wait for the session's socket to open. */
const MAX_EARLY_FRAMES = 16

/** One stream on a shared socket: a socket to its StreamSession, for which it is a client like any other. */
export class MultiplexedStream {
  readonly #options: MultiplexedStreamOptions
  #socket: WebSocket | undefined
  /** Frames that came before the session's socket was open. */
  #early: string[] = []
  #lastSeq: number
  #lastAck: ReturnType<typeof setTimeout> | null = null
  /** Set once the stream is closed. */
  #closeCode: CloseCode | undefined

  constructor(options: MultiplexedStreamOptions) {
    this.#options = options
    this.#lastSeq = options.after
    void this.#open()
  }

  /** The last event was sent to the client. */
  get ended(): boolean {
    return this.#lastAck !== null
  }

  /** UTF-16 code units of the frames that wait for the session's socket. */
  get waitingChars(): number {
    return this.#early.reduce((sum, { length }) => sum + length, 0)
  }

  send(frame: ClientFrame): void {
    if (this.ended) {
      if (frame.type === 'ack' && frame.seq >= this.#lastSeq) this.close(CLOSE_NORMAL)
      return
    }
    const text = JSON.stringify(frame)
    if (this.#socket) this.#trySend(this.#socket, text)
    else if (this.#early.length < MAX_EARLY_FRAMES) this.#early.push(text)
    else throw new AparError('overloaded', 'too many frames wait for this request to be connected')
  }

  /** Ends the stream with an error of the client, or of the connection to the session. */
  fail(thrown: unknown): void {
    if (this.#closed) return
    const error = toAparError(thrown)
    if (isForOperator(error)) this.#options.log(error.cause ?? thrown)
    this.#options.onFrame(errorEvent(error, this.#lastSeq + 1))
    this.#options.onEnd()
    this.close(CLOSE_NORMAL)
  }

  close(code: CloseCode): void {
    if (this.#closed) return
    this.#closeCode = code
    this.#early = []
    clearTimeout(this.#lastAck)
    if (this.#socket) closeQuietly(this.#socket, code)
    this.#options.onClose()
  }

  async #open(): Promise<void> {
    let socket: WebSocket
    try {
      socket = await this.#options.connect()
    } catch (error) {
      this.fail(error)
      return
    }
    socket.addEventListener('message', ({ data }) => this.#onMessage(String(data)))
    socket.addEventListener('close', ({ code }) => this.#onClose(code))
    socket.addEventListener('error', () => this.#onClose(undefined))
    socket.accept()
    if (this.#closeCode !== undefined) {
      closeQuietly(socket, this.#closeCode)
      return
    }
    this.#socket = socket
    for (const text of this.#early.splice(0)) this.#trySend(socket, text)
  }

  #onMessage(text: string): void {
    if (this.#closed || this.ended) return
    const frame: ServerFrame = JSON.parse(text)
    // The shared socket sends its own keep-alives.
    if (frame.type === 'keep_alive') return
    this.#lastSeq = frame.seq
    this.#options.onFrame(frame)
    if (frame.type === 'deltas' || !isTerminal(frame)) return
    this.#lastAck = setTimeout(() => this.close(CLOSE_NORMAL), LAST_ACK_MS)
    this.#options.onEnd()
  }

  #onClose(code: number | undefined): void {
    if (this.#closed) return
    if (!this.ended) {
      this.#options.onFrame({ type: 'cut', reason: reasonOf(code) })
      this.#options.onEnd()
    }
    this.close(CLOSE_LOST)
  }

  get #closed(): boolean {
    return this.#closeCode !== undefined
  }

  #trySend(socket: WebSocket, text: string): void {
    try {
      socket.send(text)
    } catch {
      // The socket is closed; its close event follows.
    }
  }
}

function reasonOf(code: number | undefined): CutReason {
  if (code === CLOSE_SLOW_CLIENT) return 'slow_client'
  return code === CLOSE_REPLACED ? 'replaced' : 'lost'
}
