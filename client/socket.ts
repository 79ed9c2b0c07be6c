/** As much of a WebSocket as the client needs: a browser's, Node 22's, or that of the `ws` package. */
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

/** @throws TypeError on a platform without WebSocket (Node 20), when none was passed in. */
export function socketConstructor(given: SocketConstructor | undefined): SocketConstructor {
  const found = given ?? (globalThis as { WebSocket?: SocketConstructor }).WebSocket
  if (!found) throw new TypeError('there is no WebSocket here: pass one, for example of the ws package')
  return found
}
