import { AparError, toAparError } from '../../shared/errors.ts'
import { parseJson } from '../../shared/parse.ts'
import { CLOSE_BAD_FRAMES, CLOSE_LOST, CLOSE_SERVICE_RESTART } from '../../shared/protocol/close-codes.ts'
import { FromDialledInNode, MAX_MESSAGE_CHARS, type ToDialledInNode } from '../../shared/protocol/dial-in.ts'
import type { Heartbeat, Lease } from '../../shared/protocol/fleet.ts'
import { closeQuietly } from '../close-quietly.ts'

export interface NodeChannelsOptions {
  /** `suspendedMs`: the node may not register now. */
  readonly onHeartbeat: (heartbeat: Heartbeat) => Promise<Lease | { readonly suspendedMs: number }>
  /** The node's socket is closed, and all channels with it. */
  readonly onClose: () => void
  /** The node sent a message that no honest node sends; its socket is closed. */
  readonly onNonsense: (why: AparError) => void
  /** The node sent a message that is too long; its socket is closed. Texts of long tokens can do that. */
  readonly onTooLong: (why: AparError) => void
  readonly log: (error: unknown) => void
}

/**
 * The channels on the socket of a gpu node that has dialled in. Each session has a socket to this object, which looks
 * to it like a node.
 */
export class NodeChannels {
  readonly #node: WebSocket
  readonly #options: NodeChannelsOptions
  readonly #sessions = new Map<number, WebSocket>()
  #opened = 0
  #closed = false

  /** `node`: the node's socket, accepted before. */
  constructor(node: WebSocket, options: NodeChannelsOptions) {
    this.#node = node
    this.#options = options
    node.addEventListener('message', ({ data }) => this.#onMessage(data))
    node.addEventListener('close', ({ code }) => {
      this.#end(code === CLOSE_SERVICE_RESTART ? CLOSE_SERVICE_RESTART : CLOSE_LOST)
    })
    node.addEventListener('error', () => this.#end(CLOSE_LOST))
  }

  /** Opens a channel for a session. `session`: its socket, accepted before. */
  open(session: WebSocket): void {
    const channel = this.#opened++
    this.#sessions.set(channel, session)
    this.#send({ type: 'open', channel })
    const close = () => {
      closeQuietly(session)
      if (this.#sessions.delete(channel)) this.#send({ type: 'close', channel })
    }
    session.addEventListener('message', ({ data }) => {
      if (this.#sessions.has(channel)) this.#send({ type: 'frame', channel, text: String(data) })
    })
    session.addEventListener('close', close)
    session.addEventListener('error', close)
  }

  close(code: number): void {
    closeQuietly(this.#node, code)
    this.#end(CLOSE_LOST)
  }

  #onMessage(data: string | ArrayBuffer): void {
    if (this.#closed) return
    try {
      if (typeof data !== 'string') throw new AparError('invalid_request', 'messages must be text')
      if (data.length > MAX_MESSAGE_CHARS) {
        this.#refuse(data.length)
        return
      }
      const message = parseJson(FromDialledInNode, data)
      if (message.type === 'heartbeat') void this.#answer(message.heartbeat)
      else for (const [channel, frame] of message.frames) this.#deliver(channel, frame)
    } catch (error) {
      this.#options.onNonsense(toAparError(error))
      this.close(CLOSE_BAD_FRAMES)
    }
  }

  #refuse(chars: number): void {
    const why = `a message of ${chars} characters; at most ${MAX_MESSAGE_CHARS} are allowed`
    this.#options.onTooLong(new AparError('body_too_large', why))
    this.close(CLOSE_BAD_FRAMES)
  }

  async #answer(heartbeat: Heartbeat): Promise<void> {
    try {
      const lease = await this.#options.onHeartbeat(heartbeat)
      if ('suspendedMs' in lease) this.close(CLOSE_BAD_FRAMES)
      else this.#send({ type: 'lease', ...lease })
    } catch (error) {
      // The node sends its next heartbeat with or without an answer.
      this.#options.log(error)
    }
  }

  /** A number instead of a text closes the channel with this code. Frames of a closed channel are dropped. */
  #deliver(channel: number, frame: string | number): void {
    const session = this.#sessions.get(channel)
    if (!session) return
    if (typeof frame === 'number') {
      this.#sessions.delete(channel)
      closeQuietly(session, frame)
      return
    }
    try {
      session.send(frame)
    } catch {
      // The socket is closed; its close event follows.
    }
  }

  #end(code: number): void {
    if (this.#closed) return
    this.#closed = true
    closeQuietly(this.#node)
    for (const session of this.#sessions.values()) closeQuietly(session, code)
    this.#sessions.clear()
    this.#options.onClose()
  }

  #send(message: ToDialledInNode): void {
    try {
      this.#node.send(JSON.stringify(message))
    } catch {
      // The socket is closed; its close event follows.
    }
  }
}
