import type { NodeFrame } from '../shared/protocol/node.ts'

const CONNECT_TIMEOUT_MS = 5_000
const ABNORMAL_CLOSURE = 1006

/** A request's socket to a gpu node. */
export interface NodeSocket {
  send(frame: NodeFrame): void
  /** `onBatch` gets each frame's text as it came; `onClose` comes once, after the last of them. */
  listen(onBatch: (text: string) => void, onClose: (code: number) => void): void
  close(): void
}

/**
 * Opens `<url>/v1/requests`.
 * @throws Error when the node cannot be reached in time or does not take the socket; nothing was started then.
 */
export async function connectToNode(url: string, secret: string): Promise<NodeSocket> {
  const attempt = new AbortController()
  const timeout = setTimeout(() => attempt.abort(), CONNECT_TIMEOUT_MS)
  try {
    const response = await fetch(`${url.replace(/^ws/, 'http').replace(/\/$/, '')}/v1/requests`, {
      headers: { upgrade: 'websocket', authorization: `Bearer ${secret}` },
      signal: attempt.signal,
    })
    const { webSocket } = response
    if (!webSocket) throw new Error(`the gpu node at ${url} answered ${response.status}`)
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
    this.#socket.addEventListener('error', () => close(ABNORMAL_CLOSURE))
  }

  close(): void {
    closeQuietly(this.#socket)
  }
}

/** The other side may be gone already, which is all that closing is for. */
export function closeQuietly(socket: WebSocket, code = 1000, reason = ''): void {
  try {
    socket.close(code, reason)
  } catch {}
}
