import { CLOSE_NORMAL } from '../shared/protocol/close-codes.ts'

/** Ignores errors: the socket may be closed already. */
export function closeQuietly(socket: WebSocket, code: number = CLOSE_NORMAL, reason = ''): void {
  try {
    socket.close(code, reason)
  } catch {}
}
