import { z } from 'zod'
import { AparError, toAparError } from '../../../shared/errors.ts'
import { parse, parseJson } from '../../../shared/parse.ts'
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
import { closeQuietly } from '../../nodes/node-socket.ts'
import { clientText } from '../client-link.ts'
import { Lane } from './multiplexed-stream.ts'

/** Requests that one socket may carry at the same time. */
export const MAX_REQUESTS = 64
const MAX_BAD_FRAMES = 256
/** What may wait for sessions: a client could else send faster than they open. */
const MAX_WAITING_CHARS = 4 * MAX_FRAME_CHARS

/** Which stream a client comes back to, and the last event that it has. */
export type Resumed = Pick<ResumeFrame, 'stream' | 'after'>

export interface LanesOptions {
  /** A socket to a session: a new one, or the one to go on with. @throws AparError to be shown to the client. */
  readonly connect: (resume: Resumed | undefined) => Promise<WebSocket>
  readonly log: (error: unknown) => void
  /** Default 15 s. */
  readonly keepAliveMs?: number | undefined
  /** How long a socket may carry nothing. Default 5 min. */
  readonly idleMs?: number | undefined
}

/** The requests of one client socket, which was accepted, each on a lane of its own. */
export class Lanes {
  readonly #socket: WebSocket
  readonly #options: LanesOptions
  readonly #lanes = new Map<string, Lane>()
  readonly #keepAlive: ReturnType<typeof setInterval>
  #idle: ReturnType<typeof setTimeout> | null = null
  /** Of the lanes, those that have not ended. */
  #running = 0
  #badFrames = 0
  #quiet = true
  #gone = false

  constructor(socket: WebSocket, options: LanesOptions) {
    this.#socket = socket
    this.#options = options
    this.#keepAlive = setInterval(() => {
      if (this.#quiet) this.#send({ type: 'keep_alive' })
      this.#quiet = true
    }, options.keepAliveMs ?? 15_000)
    this.#watchIdle()
    socket.addEventListener('message', ({ data }) => this.#onMessage(data))
    socket.addEventListener('close', ({ code }) => this.#onGone(isIntentionalClose(code)))
    socket.addEventListener('error', () => this.#onGone(false))
  }

  #onMessage(data: string | ArrayBuffer): void {
    if (this.#gone) return
    let id: string | undefined
    try {
      const value = parseJson(z.unknown(), clientText(data))
      id = parse(Addressed, value).id
      this.#onFrame(parse(MultiplexedFrame, value))
      this.#badFrames = 0
    } catch (error) {
      this.#refuse(id, toAparError(error))
    }
  }

  #onFrame({ id, ...frame }: MultiplexedFrame): void {
    const lane = this.#lanes.get(id)
    if (frame.type === 'generate' || frame.type === 'resume') {
      if (lane && !lane.ended)
        throw new AparError('invalid_request', 'this id has a request already', { param: 'id' })
      if (this.#running >= MAX_REQUESTS)
        throw new AparError('socket_full', `a socket carries at most ${MAX_REQUESTS} requests at a time`)
      const waiting = [...this.#lanes.values()].reduce((sum, { waitingChars }) => sum + waitingChars, 0)
      if (waiting > MAX_WAITING_CHARS)
        throw new AparError('overloaded', 'too much waits for its admission on this socket')
    }
    if (frame.type === 'resume') this.#open(id, { stream: frame.stream, after: frame.after })
    else if (frame.type === 'generate') this.#open(id, undefined).send(frame)
    // Without a lane it has ended: a race that the client may lose.
    else lane?.send(frame)
  }

  #open(id: string, resume: Resumed | undefined): Lane {
    clearTimeout(this.#idle)
    // An ended one whose last event was not acknowledged.
    this.#lanes.get(id)?.close(CLOSE_LOST)
    const lane: Lane = new Lane({
      connect: () => this.#options.connect(resume),
      after: resume?.after ?? -1,
      onFrame: (frame) => {
        if (frame.type !== 'keep_alive') this.#send({ id, ...frame })
      },
      onEnd: () => {
        this.#running--
        if (this.#running === 0) this.#watchIdle()
      },
      onClose: () => {
        if (this.#lanes.get(id) === lane) this.#lanes.delete(id)
      },
      log: this.#options.log,
    })
    this.#running++
    this.#lanes.set(id, lane)
    return lane
  }

  /** A request with that id ends; without one, that is for the client's log. Others go on. */
  #refuse(id: string | undefined, error: AparError): void {
    const lane = id === undefined ? undefined : this.#lanes.get(id)
    if (lane && !lane.ended) {
      lane.fail(error)
    } else if (id !== undefined) {
      this.#send({ id, ...errorEvent(error, 0) })
    } else {
      const { code, message, param } = error
      this.#send({ type: 'error', code, message, param: param ?? null })
    }
    // Whoever sends such frames without end may not read the answers either.
    if (++this.#badFrames >= MAX_BAD_FRAMES) this.#close(CLOSE_BAD_FRAMES, 'too many bad frames')
  }

  #watchIdle(): void {
    if (this.#gone) return
    clearTimeout(this.#idle)
    this.#idle = setTimeout(() => this.#close(CLOSE_NORMAL, 'idle'), this.#options.idleMs ?? 300_000)
  }

  #close(code: number, reason: string): void {
    closeQuietly(this.#socket, code, reason)
    this.#onGone(false)
  }

  #onGone(left: boolean): void {
    if (this.#gone) return
    this.#gone = true
    clearInterval(this.#keepAlive)
    clearTimeout(this.#idle)
    for (const lane of [...this.#lanes.values()]) lane.close(left ? CLOSE_NORMAL : CLOSE_LOST)
    closeQuietly(this.#socket)
  }

  #send(frame: MultiplexedServerFrame): void {
    if (this.#gone) return
    this.#quiet = false
    try {
      this.#socket.send(JSON.stringify(frame))
    } catch {
      // Its close event is under way.
    }
  }
}
