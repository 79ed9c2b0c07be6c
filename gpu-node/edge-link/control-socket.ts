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
/** A stream's frame is sent as a JSON string inside a message: each quote and backslash takes two bytes. */
const MAX_MESSAGE_BYTES = 2 * MAX_FRAME_BYTES
const CLOSE_GRACE_MS = 1_000

/** The edge answered the WebSocket handshake with an HTTP error. */
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
  /** Called with the channel of each new stream. */
  readonly serve: (channel: RequestSocket) => void
  /** Called for every message, before it is parsed. */
  readonly onMessage: () => void
  readonly onLease: (lease: Lease) => void
  /** Called once when the socket has closed, after all channels have ended; `reason` is for the log. */
  readonly onClose: (reason: string) => void
  readonly log: Logger
}

/** The socket over which a node has dialled in to the edge, and the channels of its streams. */
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

  sendHeartbeat(heartbeat: Heartbeat): void {
    this.#send({ type: 'heartbeat', heartbeat })
  }

  /** Closes without a closing handshake, for an edge that no longer answers. */
  terminate(): void {
    this.#socket.terminate()
  }

  /** Shuts down: on this close code the edge moves the streams. Settles when the socket has closed. */
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
      // More messages may arrive after one that made this side close the socket.
      if (this.#socket.readyState !== WebSocket.OPEN) return
      this.#options.onMessage()
      let message: ToDialledInNode
      try {
        message = parseJson(ToDialledInNode, String(data))
      } catch {
        this.#socket.close(CLOSE_PROTOCOL_ERROR, 'not a message of the protocol')
        return
      }
      try {
        this.#onMessage(message)
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

  #onMessage(message: ToDialledInNode): void {
    // An unknown channel was closed here while the edge's message was in flight: it is ignored.
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
    // The edge never reuses a number. If it did, nothing else would end the older channel.
    this.#channels.get(number)?.end()
    this.#channels.set(number, channel)
    this.#options.serve(channel)
  }

  #send(message: FromDialledInNode): void {
    this.#socket.send(JSON.stringify(message), () => {})
  }
}
