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
import { closeQuietly } from '../../nodes/node-socket.ts'

type CloseCode = typeof CLOSE_NORMAL | typeof CLOSE_LOST

export interface LaneOptions {
  /** A socket to the request's session, not accepted yet. @throws AparError to be shown to the client. */
  readonly connect: () => Promise<WebSocket>
  /** The client has everything up to this event; -1 at first. */
  readonly after: number
  readonly onFrame: (frame: ServerFrame | CutFrame) => void
  /** The client has had the last event, or a cut: its id is free. */
  readonly onEnd: () => void
  /** Nothing follows. */
  readonly onClose: () => void
  readonly log: (error: unknown) => void
}

/** How long a client may take to acknowledge the last event; it may come back for it all the while. */
const LAST_ACK_MS = 30_000
/** Frames that may wait for the session; before it is there a client has no reason for more than a few. */
const MAX_EARLY_FRAMES = 16

/** One request of a shared socket: its way to its StreamSession, which sees a client as any other. */
export class Lane {
  readonly #options: LaneOptions
  #socket: WebSocket | undefined
  /** Frames that came before the session was there. */
  #early: string[] = []
  #lastSeq: number
  #lastAck: ReturnType<typeof setTimeout> | null = null
  /** How it was closed. */
  #closed: CloseCode | undefined

  constructor(options: LaneOptions) {
    this.#options = options
    this.#lastSeq = options.after
    void this.#open()
  }

  /** The client has been sent the last event. */
  get ended(): boolean {
    return this.#lastAck !== null
  }

  /** UTF-16 code units that wait for the session. */
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
    else throw new AparError('overloaded', 'too many frames wait for the admission of this request')
  }

  /** Ends the request with an error of the client's own making, or of its way to the session. */
  fail(thrown: unknown): void {
    if (this.#over) return
    const error = toAparError(thrown)
    if (error.code === 'internal_error') this.#options.log(error.cause ?? thrown)
    this.#options.onFrame(errorEvent(error, this.#lastSeq + 1))
    this.#options.onEnd()
    this.close(CLOSE_NORMAL)
  }

  close(code: CloseCode): void {
    if (this.#over) return
    this.#closed = code
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
    if (this.#closed !== undefined) {
      closeQuietly(socket, this.#closed)
      return
    }
    this.#socket = socket
    for (const text of this.#early.splice(0)) this.#trySend(socket, text)
  }

  #onMessage(text: string): void {
    if (this.#over || this.ended) return
    const frame: ServerFrame = JSON.parse(text)
    // The shared socket has its own.
    if (frame.type === 'keep_alive') return
    this.#lastSeq = frame.seq
    this.#options.onFrame(frame)
    if (frame.type === 'deltas' || !isTerminal(frame)) return
    this.#lastAck = setTimeout(() => this.close(CLOSE_NORMAL), LAST_ACK_MS)
    this.#options.onEnd()
  }

  #onClose(code: number | undefined): void {
    if (this.#over) return
    if (!this.ended) {
      this.#options.onFrame({ type: 'cut', reason: reasonOf(code) })
      this.#options.onEnd()
    }
    this.close(CLOSE_LOST)
  }

  get #over(): boolean {
    return this.#closed !== undefined
  }

  #trySend(socket: WebSocket, text: string): void {
    try {
      socket.send(text)
    } catch {
      // Its close event is under way.
    }
  }
}

function reasonOf(code: number | undefined): CutReason {
  if (code === CLOSE_SLOW_CLIENT) return 'slow_client'
  return code === CLOSE_REPLACED ? 'replaced' : 'lost'
}
