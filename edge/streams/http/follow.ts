import { AparError } from '../../../shared/errors.ts'
import { EventQueue } from '../../../shared/event-queue.ts'
import { CLOSE_LOST, CLOSE_NORMAL, CLOSE_REPLACED } from '../../../shared/protocol/close-codes.ts'
import { isTerminal, type ServerFrame, type StreamEvent } from '../../../shared/protocol/events.ts'
import type { ClientFrame } from '../../../shared/protocol/frames.ts'
import type { CallContext } from '../../../shared/protocol/node.ts'
import type { GenerateRequest } from '../../../shared/protocol/request.ts'
import { closeQuietly } from '../../close-quietly.ts'
import type { Env } from '../../env.ts'
import { connectToSession, type SessionOptions } from '../connect.ts'
import { sleep } from '../sleep.ts'

/** Attempts in a row, none of which brought an event, to connect to the session again. */
const MAX_RECONNECTS = 5
const FIRST_BACKOFF_MS = 50

/** A stream's session is gone, and has said nothing: nobody knows the stream's name, so it cannot be read any more. */
export class NeverBegun extends AparError {
  constructor() {
    super('gpu_node_lost', 'the stream was cut before its first event')
  }
}

export interface FollowOptions {
  readonly callContext?: CallContext | undefined
  /** Aborting it ends the events. It ends the stream only if its first event was not passed on yet. */
  readonly signal: AbortSignal
  readonly session: Pick<SessionOptions, 'principal' | 'reservation' | 'affinity' | 'rows'>
}

/**
 * The events of one stream whose client may resume. The stream's session owns the reservation in the key's limits, and
 * keeps the stream for its grace time, also when this generator is left early.
 * `from`: the request of a new stream, or the name of a stream to read from its first event.
 * @throws AparError `stream_replaced` when another connection takes over; NeverBegun.
 */
export async function* follow(
  env: Env,
  from: GenerateRequest | string,
  { callContext, signal, session }: FollowOptions,
): AsyncGenerator<StreamEvent, void> {
  let stream = typeof from === 'string' ? from : undefined
  let lastSeq = -1
  // A new stream's name is in its first event: before that was passed on, no client can resume the stream.
  let shown = stream !== undefined
  for (let failures = 0; failures < MAX_RECONNECTS; failures++) {
    if (failures > 0) {
      await sleep(FIRST_BACKOFF_MS * 2 ** (failures - 1))
      if (signal.aborted) return
    }
    const resume = stream === undefined ? undefined : { stream, after: lastSeq }
    const options = { ...session, callContext, resume, relayed: true }
    let socket: WebSocket
    try {
      socket = await connectToSession(env, options)
    } catch (why) {
      // Any other error is of a session that is being restarted. An AparError says that there is no such stream.
      if (why instanceof AparError || failures === MAX_RECONNECTS - 1) throw why
      continue
    }
    const reader = new Reader(socket, signal)
    try {
      if (stream === undefined && typeof from !== 'string') reader.send({ type: 'generate', ...from })
      for (let event = await reader.next(); event; event = await reader.next()) {
        failures = 0
        lastSeq = event.seq
        if (event.type === 'accepted') stream = event.stream
        yield event
        shown = true
        if (isTerminal(event)) return
      }
    } finally {
      reader.close(shown ? CLOSE_LOST : CLOSE_NORMAL)
    }
    if (signal.aborted) return
    if (reader.closeCode === CLOSE_REPLACED)
      throw new AparError('stream_replaced', 'another connection reads this stream now')
    if (stream === undefined) throw new NeverBegun()
  }
  throw new AparError('gpu_node_lost', 'the stream was cut before its end')
}

/** Reads the events from a session's socket. */
class Reader {
  closeCode: number | undefined
  readonly #socket: WebSocket
  readonly #signal: AbortSignal
  readonly #events = new EventQueue<StreamEvent>()

  constructor(socket: WebSocket, signal: AbortSignal) {
    this.#socket = socket
    this.#signal = signal
    socket.addEventListener('message', ({ data }) => {
      const event: ServerFrame = JSON.parse(String(data))
      // Merged deltas are sent only to clients that send acks.
      if (event.type === 'keep_alive' || event.type === 'deltas') return
      this.#events.push(event)
    })
    const close = (code: number | undefined) => {
      this.closeCode ??= code
      this.#events.end()
    }
    socket.addEventListener('close', ({ code }) => close(code))
    socket.addEventListener('error', () => close(undefined))
    signal.addEventListener('abort', this.#onAbort)
    socket.accept()
  }

  send(frame: ClientFrame): void {
    this.#socket.send(JSON.stringify(frame))
  }

  /** undefined once the socket is closed or the signal aborted. */
  async next(): Promise<StreamEvent | undefined> {
    if (this.#signal.aborted) return undefined
    const { value } = await this.#events.next()
    return this.#signal.aborted ? undefined : value
  }

  close(code: number): void {
    this.#signal.removeEventListener('abort', this.#onAbort)
    closeQuietly(this.#socket, code)
  }

  readonly #onAbort = () => this.#events.end()
}
