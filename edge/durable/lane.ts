import { type AparError, toAparError } from '../../shared/errors.ts'
import { isTerminal, type ServerFrame } from '../../shared/protocol/events.ts'
import type { ClientFrame } from '../../shared/protocol/frames.ts'
import type { CutFrame, CutReason } from '../../shared/protocol/multiplex.ts'
import { closeQuietly } from '../gpu-node.ts'
import { CLOSE_REPLACED, CLOSE_SLOW_CLIENT } from './client-link.ts'

/** To a session: the client said goodbye, or was lost and may come back. */
export const CLOSE_LEFT = 1000
export const CLOSE_LOST = 4000

export interface LaneOptions {
  /** A socket to the request's session, not accepted yet. @throws AparError to be shown to the client. */
  readonly connect: () => Promise<WebSocket>
  /** The client has everything up to this event; -1 at first. */
  readonly after: number
  readonly onFrame: (frame: ServerFrame | CutFrame) => void
  /** Nothing follows. */
  readonly onEnd: () => void
  readonly log: (error: unknown) => void
}

/** One request of a shared socket: its way to its StreamSession, which sees a client as any other. */
export class Lane {
  readonly #options: LaneOptions
  #socket: WebSocket | undefined
  /** Frames that came before the session was there. */
  #early: string[] = []
  #lastSeq: number
  #over = false

  constructor(options: LaneOptions) {
    this.#options = options
    this.#lastSeq = options.after
    void this.#open()
  }

  /** UTF-16 code units that wait for the session. */
  get waitingChars(): number {
    return this.#early.reduce((sum, { length }) => sum + length, 0)
  }

  send(frame: ClientFrame): void {
    const text = JSON.stringify(frame)
    if (this.#socket) this.#trySend(this.#socket, text)
    else this.#early.push(text)
  }

  /** Ends the request with an error of the client's own making, or of its way to the session. */
  fail(thrown: unknown): void {
    if (this.#over) return
    const error = toAparError(thrown)
    if (error.code === 'internal_error') this.#options.log(error.cause ?? thrown)
    this.#options.onFrame(errorEvent(error, this.#lastSeq + 1))
    this.close(CLOSE_LEFT)
  }

  close(code: typeof CLOSE_LEFT | typeof CLOSE_LOST): void {
    if (this.#over) return
    this.#over = true
    this.#early = []
    if (this.#socket) closeQuietly(this.#socket, code)
    this.#options.onEnd()
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
    if (this.#over) {
      closeQuietly(socket, CLOSE_LEFT)
      return
    }
    this.#socket = socket
    for (const text of this.#early.splice(0)) this.#trySend(socket, text)
  }

  #onMessage(text: string): void {
    if (this.#over) return
    const frame: ServerFrame = JSON.parse(text)
    // The shared socket has its own.
    if (frame.type === 'keep_alive') return
    this.#lastSeq = frame.seq
    this.#options.onFrame(frame)
    if (frame.type !== 'deltas' && isTerminal(frame)) this.close(CLOSE_LEFT)
  }

  #onClose(code: number | undefined): void {
    if (this.#over) return
    this.#options.onFrame({ type: 'cut', reason: reasonOf(code) })
    this.close(CLOSE_LOST)
  }

  #trySend(socket: WebSocket, text: string): void {
    try {
      socket.send(text)
    } catch {
      // Its close event is under way.
    }
  }
}

export function errorEvent({ code, message, param }: AparError, seq: number) {
  return { type: 'error', seq, code, message, param: param ?? null } as const
}

function reasonOf(code: number | undefined): CutReason {
  if (code === CLOSE_SLOW_CLIENT) return 'slow_client'
  return code === CLOSE_REPLACED ? 'replaced' : 'lost'
}
