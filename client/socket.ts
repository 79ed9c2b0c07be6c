/** The part of the WebSocket interface that the client uses: a browser's, Node 22's, or the `ws` package's. */
export interface SocketLike {
  readonly readyState: number
  send(data: string): void
  close(code?: number, reason?: string): void
  addEventListener(type: 'open' | 'error', listener: () => void): void
  addEventListener(type: 'close', listener: (event: { code?: number | undefined }) => void): void
  addEventListener(type: 'message', listener: (event: { data: unknown }) => void): void
}

export type SocketConstructor = new (url: string, protocols: string[]) => SocketLike

export const SOCKET_OPEN = 1

/** @throws TypeError when none was passed in and the platform has no WebSocket (Node 20). */
export function socketConstructor(given: SocketConstructor | undefined): SocketConstructor {
  const found = given ?? (globalThis as { WebSocket?: SocketConstructor }).WebSocket
  if (!found)
    throw new TypeError('this platform has no WebSocket: pass one, for example that of the ws package')
  return found
}
