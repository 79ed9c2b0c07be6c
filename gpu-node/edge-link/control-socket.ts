import { WebSocket } from 'ws'
import type { Logger } from '../../shared/log.ts'
import { parseJson } from '../../shared/parse.ts'
import {
  CLOSE_INTERNAL_ERROR,
  CLOSE_PROTOCOL_ERROR,
  CLOSE_SERVICE_RESTART,
} from '../../shared/protocol/close-codes.ts'
import { type FromDialledInNode, ToDialledInNode } from '../../shared/protocol/dial-in.ts'
import type { Heartbeat, Lease } from '../../shared/protocol/fleet.ts'
import { MAX_FRAME_BYTES, type RequestSocket } from '../requests/request-socket.ts'
import { StepWriter } from './step-writer.ts'
import { StreamChannel } from './stream-channel.ts'

const HANDSHAKE_TIMEOUT_MS = 5_000
/** A frame travels as text in a message, where a quote or a backslash takes two bytes. */
const MAX_MESSAGE_BYTES = 2 * MAX_FRAME_BYTES
const CLOSE_GRACE_MS = 1_000

/** The edge answered the handshake, but not with a socket. */
export class HandshakeRefused extends Error {
  readonly status: number

  constructor(url: string, status: number) {
    super(`${url} answered ${status}`)
    this.status = status
  }
}

export interface ControlSocketOptions {
  /** `ws://…/internal/v1/nodes/<id>/socket`. */
  readonly url: string
  readonly nodeSecret: string
  /** Serves a stream's channel. */
  readonly serve: (channel: RequestSocket) => void
  /** Something came, whatever it was. */
  readonly onHeard: () => void
  readonly onLease: (lease: Lease) => void
  /** How a closed socket was: for the log. Comes once, after all channels have ended. */
  readonly onClose: (reason: string) => void
  readonly log: Logger
}

/** A connection to the edge with which a node has dialled in, and the streams' channels on it. */
export class ControlSocket {
  readonly #socket: WebSocket
  readonly #steps: StepWriter
  readonly #channels = new Map<number, StreamChannel>()
  readonly #options: ControlSocketOptions

  private constructor(socket: WebSocket, options: ControlSocketOptions) {
    this.#socket = socket
    this.#steps = new StepWriter(socket)
    this.#options = options
  }

  /** @throws HandshakeRefused, or Error when the edge cannot be reached. */
  static open(options: ControlSocketOptions): Promise<ControlSocket> {
    const { url, nodeSecret } = options
    const socket = new WebSocket(url, {
      headers: { authorization: `Bearer ${nodeSecret}` },
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
      maxPayload: MAX_MESSAGE_BYTES,
      perMessageDeflate: false,
    })
    const control = new ControlSocket(socket, options)
    return new Promise((resolve, reject) => {
      socket.once('unexpected-response', (request, { statusCode = 0 }) => {
        reject(new HandshakeRefused(url, statusCode))
        request.destroy()
      })
      socket.on('error', (cause) => reject(new Error(`${url} cannot be reached`, { cause })))
      socket.once('open', () => {
        control.#listen()
        resolve(control)
      })
    })
  }

  beat(heartbeat: Heartbeat): void {
    this.#send({ type: 'heartbeat', heartbeat })
  }

  /** For an edge that has gone silent. */
  terminate(): void {
    this.#socket.terminate()
  }

  /** Goodbye: the edge moves the streams. Settles when the edge knows. */
  async close(): Promise<void> {
    if (this.#socket.readyState === WebSocket.CLOSED) return
    const closed = new Promise<void>((resolve) => this.#socket.once('close', () => resolve()))
    this.#steps.flush()
    this.#socket.close(CLOSE_SERVICE_RESTART, 'the gpu node was shut down')
    const late = setTimeout(() => this.#socket.terminate(), CLOSE_GRACE_MS)
    await closed
    clearTimeout(late)
  }

  #listen(): void {
    this.#socket.on('message', (data) => {
      // Behind a message that closed the socket others may have been under way.
      if (this.#socket.readyState !== WebSocket.OPEN) return
      this.#options.onHeard()
      let message: ToDialledInNode
      try {
        message = parseJson(ToDialledInNode, String(data))
      } catch {
        this.#socket.close(CLOSE_PROTOCOL_ERROR, 'not a message of the protocol')
        return
      }
      try {
        this.#take(message)
      } catch (thrown) {
        this.#options.log.error('a bug ended the socket to the edge', { type: message.type }, thrown)
        this.#socket.close(CLOSE_INTERNAL_ERROR, 'internal error')
      }
    })
    this.#socket.once('close', (code) => {
      for (const channel of this.#channels.values()) channel.end()
      this.#channels.clear()
      this.#options.onClose(`the edge's socket closed (${code})`)
    })
  }

  #take(message: ToDialledInNode): void {
    // A channel that is unknown was closed here: the two may cross.
    if (message.type === 'lease') {
      this.#options.onLease(message)
    } else if (message.type === 'open') {
      this.#open(message.channel)
    } else if (message.type === 'frame') {
      this.#channels.get(message.channel)?.receive(message.text)
    } else {
      this.#channels.get(message.channel)?.end()
      this.#channels.delete(message.channel)
    }
  }

  #open(number: number): void {
    const channel = new StreamChannel({
      send: (text, written) => this.#steps.push(number, text, written),
      close: (code) => {
        this.#channels.delete(number)
        this.#steps.push(number, code)
      },
    })
    // A number is never used again; if the edge does so, nothing else would end the older channel.
    this.#channels.get(number)?.end()
    this.#channels.set(number, channel)
    this.#options.serve(channel)
  }

  #send(message: FromDialledInNode): void {
    this.#socket.send(JSON.stringify(message), () => {})
  }
}
