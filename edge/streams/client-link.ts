import { AparError } from '../../shared/errors.ts'
import { parseJson } from '../../shared/parse.ts'
import { CLOSE_NORMAL, CLOSE_SLOW_CLIENT, isIntentionalClose } from '../../shared/protocol/close-codes.ts'
import { coalesce } from '../../shared/protocol/deltas.ts'
import { errorEvent, type ServerFrame } from '../../shared/protocol/events.ts'
import { ClientFrame, MAX_FRAME_CHARS } from '../../shared/protocol/frames.ts'
import type { StreamLog } from '../../shared/protocol/stream-log.ts'
import { closeQuietly } from '../nodes/node-socket.ts'

/** Events that may be under way to a client that acknowledges. */
const WINDOW_EVENTS = 256

export interface ClientLinkOptions {
  /** The client has everything up to this event; -1 at first. */
  readonly after: number
  /** It sends `ack`: what it has not acknowledged is limited, and deltas may be merged. */
  readonly acks: boolean
  /** It closes the socket itself when everything has arrived. */
  readonly relayed?: boolean | undefined
  /** @throws what is wrong with a frame; `onBadFrame` hears of it. */
  readonly onFrame: (frame: ClientFrame) => void
  readonly onBadFrame: (error: unknown) => void
  /** The socket is closed. `left`: its client said goodbye, so it will not come back. */
  readonly onGone: (left: boolean) => void
  /** Default 15 s. */
  readonly keepAliveMs?: number | undefined
  /** How long a full window may stand still before the client is cut. Default 30 s. */
  readonly stallMs?: number | undefined
}

/** Carries a stream's log to one client socket, which was accepted, as fast as that reads. */
export class ClientLink {
  readonly #socket: WebSocket
  readonly #log: StreamLog
  readonly #options: ClientLinkOptions
  readonly #keepAlive: ReturnType<typeof setInterval>
  #stall: ReturnType<typeof setTimeout> | null = null
  #sent: number
  #acked: number
  #quiet = true
  #closed = false
  #gone = false

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
    socket.addEventListener('close', ({ code }) => this.#onGone(isIntentionalClose(code)))
    socket.addEventListener('error', () => this.#onGone(false))
  }

  /** It continues what another socket began. */
  get resumed(): boolean {
    return this.#options.after >= 0
  }

  /** Sends what the log has more than the client, as far as its window goes; after the last event, closes. */
  offer(): void {
    if (this.#gone) return
    if (this.#log.ended && this.#sent >= this.#log.nextSeq) {
      const message = `there is no event ${this.#sent}: the stream has ${this.#log.nextSeq}`
      this.refuse(new AparError('invalid_request', message, { param: 'after' }))
      return
    }
    const room = this.#options.acks ? this.#acked + WINDOW_EVENTS - this.#sent : Number.POSITIVE_INFINITY
    const waiting = this.#log.since(this.#sent)
    const now = room < waiting.length ? waiting.slice(0, Math.max(0, room)) : waiting
    // A step of all branches is one frame: what a frame costs weighs more than what is in it.
    for (const frame of this.#options.acks ? coalesce(now) : now) this.#send(frame)
    this.#sent += now.length
    if (now.length < waiting.length) this.#watchStall()
    else if (this.#log.ended && !this.#options.relayed) this.close(CLOSE_NORMAL, '')
  }

  /** For a stream that has no log any more. */
  refuse(error: AparError): void {
    this.#send(errorEvent(error, this.#sent + 1))
    this.close(CLOSE_NORMAL, '')
  }

  /** Sends nothing more. `onGone` follows once the client knows. */
  close(code: number, reason: string): void {
    this.#closed = true
    this.#stop()
    closeQuietly(this.#socket, code, reason)
  }

  #onMessage(data: string | ArrayBuffer): void {
    if (this.#gone || this.#closed) return
    try {
      const frame = parseJson(ClientFrame, clientText(data))
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
    this.offer()
  }

  #watchStall(): void {
    this.#stall ??= setTimeout(() => {
      this.close(CLOSE_SLOW_CLIENT, 'slow_client')
      this.#onGone(false)
    }, this.#options.stallMs ?? 30_000)
  }

  #onGone(left: boolean): void {
    if (this.#gone) return
    this.#gone = true
    this.#stop()
    closeQuietly(this.#socket)
    this.#options.onGone(left)
  }

  #send(frame: ServerFrame): void {
    if (this.#gone) return
    this.#quiet = false
    try {
      this.#socket.send(JSON.stringify(frame))
    } catch {
      // Its close event is under way.
    }
  }

  #stop(): void {
    clearInterval(this.#keepAlive)
    clearTimeout(this.#stall)
  }
}

/** @throws AparError for what is no text, or too much. */
export function clientText(data: string | ArrayBuffer): string {
  if (typeof data !== 'string') throw new AparError('invalid_request', 'frames must be text')
  if (data.length <= MAX_FRAME_CHARS) return data
  throw new AparError('body_too_large', `a frame may have at most ${MAX_FRAME_CHARS} characters`)
}
