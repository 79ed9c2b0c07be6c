import { AparError } from '../../shared/errors.ts'
import { parseJson } from '../../shared/parse.ts'
import { CLOSE_BAD_FRAMES, CLOSE_LOST, CLOSE_SERVICE_RESTART } from '../../shared/protocol/close-codes.ts'
import { FromDialledInNode, MAX_MESSAGE_CHARS, type ToDialledInNode } from '../../shared/protocol/dial-in.ts'
import type { Heartbeat, Lease } from '../../shared/protocol/fleet.ts'
import { closeQuietly } from './node-socket.ts'

export interface NodeChannelsOptions {
  readonly onHeartbeat: (heartbeat: Heartbeat) => Promise<Lease>
  /** The socket is closed, and all channels with it. */
  readonly onGone: () => void
  readonly log: (error: unknown) => void
}

/** The streams on the socket of a gpu node that has dialled in: each session has a socket to here, and sees a node. */
export class NodeChannels {
  readonly #node: WebSocket
  readonly #options: NodeChannelsOptions
  readonly #sessions = new Map<number, WebSocket>()
  #opened = 0
  #gone = false

  /** `node` was accepted. */
  constructor(node: WebSocket, options: NodeChannelsOptions) {
    this.#node = node
    this.#options = options
    node.addEventListener('message', ({ data }) => this.#onMessage(data))
    node.addEventListener('close', ({ code }) => {
      this.#end(code === CLOSE_SERVICE_RESTART ? CLOSE_SERVICE_RESTART : CLOSE_LOST)
    })
    node.addEventListener('error', () => this.#end(CLOSE_LOST))
  }

  /** A channel for a session, whose socket was accepted. */
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
    if (this.#gone) return
    try {
      if (typeof data !== 'string') throw new AparError('invalid_request', 'messages must be text')
      if (data.length > MAX_MESSAGE_CHARS)
        throw new AparError('body_too_large', `a message may have at most ${MAX_MESSAGE_CHARS} characters`)
      const message = parseJson(FromDialledInNode, data)
      if (message.type === 'heartbeat') void this.#answer(message.heartbeat)
      else for (const [channel, frame] of message.frames) this.#deliver(channel, frame)
    } catch (error) {
      this.#options.log(error)
      this.close(CLOSE_BAD_FRAMES)
    }
  }

  async #answer(heartbeat: Heartbeat): Promise<void> {
    try {
      const lease = await this.#options.onHeartbeat(heartbeat)
      this.#send({ type: 'lease', ...lease })
    } catch (error) {
      // The node beats again, with or without an answer.
      this.#options.log(error)
    }
  }

  /** What comes for a session that has left is nobody's. */
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
      // Its close event is under way.
    }
  }

  #end(code: number): void {
    if (this.#gone) return
    this.#gone = true
    closeQuietly(this.#node)
    for (const session of this.#sessions.values()) closeQuietly(session, code)
    this.#sessions.clear()
    this.#options.onGone()
  }

  #send(message: ToDialledInNode): void {
    try {
      this.#node.send(JSON.stringify(message))
    } catch {
      // Its close event is under way.
    }
  }
}
