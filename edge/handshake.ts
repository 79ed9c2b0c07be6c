/** The subprotocols that a WebSocket handshake offers; empty for any other request. */
export function offeredSubprotocols(request: Request): string[] {
  if (!isUpgrade(request)) return []
  const header = request.headers.get('sec-websocket-protocol') ?? ''
  return header.split(',').flatMap((name) => name.trim() || [])
}

export function isUpgrade(request: Request): boolean {
  return request.headers.get('upgrade')?.trim().toLowerCase() === 'websocket'
}
