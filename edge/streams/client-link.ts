import { AparError } from '../../shared/errors.ts'
import { parse, parseStrangersJson } from '../../shared/parse.ts'
import { CLOSE_NORMAL, CLOSE_SLOW_CLIENT, isIntentionalClose } from '../../shared/protocol/close-codes.ts'
import { coalesce } from '../../shared/protocol/deltas.ts'
import { errorEvent, type ServerFrame } from '../../shared/protocol/events.ts'
import { ClientFrame, MAX_FRAME_CHARS } from '../../shared/protocol/frames.ts'
import type { StreamLog } from '../../shared/stream-log.ts'
import { closeQuietly } from '../close-quietly.ts'

/** Events that may be sent but not acknowledged, for a client that acknowledges. */
const WINDOW_EVENTS = 256

export interface ClientLinkOptions {
  /** The client has all events up to this one; -1 for a new stream. */
  readonly after: number
  /** The client sends `ack`: the number of events that are not acknowledged is limited, and deltas may be merged. */
  readonly acks: boolean
  /** The client closes the socket itself when everything has arrived. */
  readonly relayed?: boolean | undefined
  /** What it throws is passed to `onBadFrame`. */
  readonly onFrame: (frame: ClientFrame) => void
  readonly onBadFrame: (error: unknown) => void
  /** The socket is closed. `intended`: the client closed it on purpose, so it will not resume. */
  readonly onClose: (intended: boolean) => void
  /** Default 15 s. */
  readonly keepAliveMs?: number | undefined
  /** How long a full window may wait for an `ack` before the socket is closed. Default 30 s. */
  readonly stallMs?: number | undefined
}

/** Sends a stream's log to one client socket (accepted before), at the speed at which the client reads. */
export class ClientLink {
  readonly #socket: WebSocket
  readonly #log: StreamLog
  readonly #options: ClientLinkOptions
  readonly #keepAlive: ReturnType<typeof setInterval>
  #stall: ReturnType<typeof setTimeout> | null = null
  #sent: number
  #acked: number
  #quiet = true
  #closing = false
  #refused = false
  #closed = false

  constructor(socket: WebSocket, log: StreamLog, options: ClientLinkOptions) {
    this.#socket = socket
    this.#log = log
    this.#options = options
    this.#sent = options.after
    this.#acked = options.after
    this.#keepAlive = setInterval(() => {
      if (this.#quiet) this.#send({ type: 'keep_alive' })
      this.#quiet = true
    }, options.keepAliveMs ?? 15_000)
    socket.addEventListener('message', ({ data }) => this.#onMessage(data))
    socket.addEventListener('close', ({ code }) => this.#onClose(isIntentionalClose(code) && !this.#refused))
    socket.addEventListener('error', () => this.#onClose(false))
  }

  /** The client resumes a stream that it began on another socket. */
  get resumed(): boolean {
    return this.#options.after >= 0
  }

  /**
   * Sends the events of the log that the client has not got, as far as its window allows. Closes after the last one.
   */
  flush(): void {
    if (this.#closed) return
    if (this.#log.ended && this.#sent >= this.#log.nextSeq) {
      const message = `there is no event ${this.#sent}: the stream has ${this.#log.nextSeq}`
      this.refuse(new AparError('invalid_request', message, { param: 'after' }))
      return
    }
    const room = this.#options.acks ? this.#acked + WINDOW_EVENTS - this.#sent : Number.POSITIVE_INFINITY
    const waiting = this.#log.since(this.#sent)
    const now = room < waiting.length ? waiting.slice(0, Math.max(0, room)) : waiting
    // One frame per step of all branches: the cost of a frame outweighs the cost of its content.
    for (const frame of this.#options.acks ? coalesce(now) : now) this.#send(frame)
    this.#sent += now.length
    if (now.length < waiting.length) this.#watchStall()
    else if (this.#log.ended && !this.#options.relayed) this.close(CLOSE_NORMAL, '')
  }

  /** Sends an error that is not in the log, and closes. The stream remains, for a client that asks for it rightly. */
  refuse(error: AparError): void {
    this.#refused = true
    this.#send(errorEvent(error, this.#sent + 1))
    this.close(CLOSE_NORMAL, '')
  }

  /** Sends nothing more. `onClose` is called when the client has closed its side. */
  close(code: number, reason: string): void {
    this.#closing = true
    this.#stop()
    closeQuietly(this.#socket, code, reason)
  }

  #onMessage(data: string | ArrayBuffer): void {
    if (this.#closed || this.#closing) return
    try {
      const frame = parse(ClientFrame, parseStrangersJson(clientText(data)))
      if (frame.type === 'ack') this.#onAck(frame.seq)
      else this.#options.onFrame(frame)
    } catch (error) {
      this.#options.onBadFrame(error)
    }
  }

  #onAck(seq: number): void {
    if (seq > this.#sent) throw new AparError('invalid_request', `event ${seq} was not sent yet`)
    if (seq <= this.#acked) return
    this.#acked = seq
    clearTimeout(this.#stall)
    this.#stall = null
    this.flush()
  }

  #watchStall(): void {
    this.#stall ??= setTimeout(() => {
      this.close(CLOSE_SLOW_CLIENT, 'slow_client')
      this.#onClose(false)
    }, this.#options.stallMs ?? 30_000)
  }

  #onClose(intended: boolean): void {
    if (this.#closed) return
    this.#closed = true
    this.#stop()
    closeQuietly(this.#socket)
    this.#options.onClose(intended)
  }

  #send(frame: ServerFrame): void {
    if (this.#closed) return
    this.#quiet = false
    try {
      this.#socket.send(JSON.stringify(frame))
    } catch {
      // The socket is closed; its close event follows.
    }
  }

  #stop(): void {
    clearInterval(this.#keepAlive)
    clearTimeout(this.#stall)
  }
}

/** @throws AparError for a frame that is not text, or too long. */
export function clientText(data: string | ArrayBuffer): string {
  if (typeof data !== 'string') throw new AparError('invalid_request', 'frames must be text')
  if (data.length <= MAX_FRAME_CHARS) return data
  throw new AparError('body_too_large', `a frame may have at most ${MAX_FRAME_CHARS} characters`)
}
