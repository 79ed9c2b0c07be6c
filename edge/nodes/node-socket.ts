import { CLOSE_ABNORMAL } from '../../shared/protocol/close-codes.ts'
import type { NodeFrame } from '../../shared/protocol/node.ts'
import { closeQuietly } from '../close-quietly.ts'
import type { Env } from '../env.ts'

export const CONNECT_TIMEOUT_MS = 5_000

/** URLs of a DialledInNode: sessions open channels to the node, the node itself opens its socket. */
const CHANNEL_URL = 'https://node/channel'
export const SOCKET_PATH = '/socket'

export interface NodeAddress {
  readonly id: string
  /** undefined for a node that has dialled in. */
  readonly url: string | undefined
  /** Context length of the model on this node; unknown for addresses that older versions stored. */
  readonly contextTokens?: number | undefined
  /** What the node knows of `start` beyond its first version (`capacity.start_fields`). */
  readonly startFields?: readonly string[] | undefined
}

/** A stream's connection to a gpu node. */
export interface NodeSocket {
  send(frame: NodeFrame): void
  /** `onBatch` gets the text of each frame; `onClose` is called once, after the last frame. */
  listen(onBatch: (text: string) => void, onClose: (code: number) => void): void
  close(): void
}

/**
 * Opens `<url>/v1/requests`, or a channel on the socket with which the node has dialled in.
 * @throws Error when the node cannot be reached in time or refuses the socket; nothing was started then.
 */
export async function connectToNode(env: Env, { id, url }: NodeAddress): Promise<NodeSocket> {
  const attempt = new AbortController()
  const timeout = setTimeout(() => attempt.abort(), CONNECT_TIMEOUT_MS)
  try {
    const { signal } = attempt
    const response = await (url === undefined
      ? dialledInNodeOf(env, id).fetch(CHANNEL_URL, { headers: { upgrade: 'websocket' }, signal })
      : fetch(`${url.replace(/^ws/, 'http').replace(/\/$/, '')}/v1/requests`, {
          headers: { upgrade: 'websocket', authorization: `Bearer ${env.NODE_SECRET ?? ''}` },
          // A redirect would send the secret to a host that is not in NODE_HOSTS.
          redirect: 'manual',
          signal,
        }))
    const { webSocket } = response
    if (!webSocket) throw new Error(`the gpu node ${url ?? id} answered ${response.status}`)
    webSocket.accept()
    return new AcceptedNodeSocket(webSocket)
  } finally {
    clearTimeout(timeout)
  }
}

class AcceptedNodeSocket implements NodeSocket {
  readonly #socket: WebSocket

  constructor(socket: WebSocket) {
    this.#socket = socket
  }

  send(frame: NodeFrame): void {
    this.#socket.send(JSON.stringify(frame))
  }

  listen(onBatch: (text: string) => void, onClose: (code: number) => void): void {
    let closed = false
    const close = (code: number) => {
      if (!closed) onClose(code)
      closed = true
    }
    this.#socket.addEventListener('message', ({ data }) => onBatch(String(data)))
    this.#socket.addEventListener('close', ({ code }) => close(code))
    this.#socket.addEventListener('error', () => close(CLOSE_ABNORMAL))
  }

  close(): void {
    closeQuietly(this.#socket)
  }
}

/** The object that owns the socket of a gpu node that has dialled in. */
export function dialledInNodeOf(env: Env, id: string): DurableObjectStub {
  return env.DIALLED_IN_NODE.getByName(id)
}
