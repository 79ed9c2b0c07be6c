import { connect } from 'node:net'

/** Sends bytes that no HTTP library would send, and reads until the server closes the connection. */
export async function untilClosed(port: number, text: string): Promise<{ statuses: number[]; text: string }> {
  const socket = connect(port, '127.0.0.1').setEncoding('latin1')
  let received = ''
  socket.on('data', (data) => {
    received += data
  })
  await new Promise<void>((resolve, reject) => {
    socket.on('close', () => resolve())
    socket.on('error', reject)
    socket.write(text)
  })
  const statuses = [...received.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => Number(status))
  return { statuses, text: received }
}

/** As `untilClosed`, but closes the connection itself at the first status. */
export async function firstStatus(port: number, text: string): Promise<number> {
  const socket = connect(port, '127.0.0.1').setEncoding('latin1')
  const received = await new Promise<string>((resolve, reject) => {
    socket.once('data', (data) => resolve(String(data)))
    socket.on('error', reject)
    socket.write(text)
  })
  socket.destroy()
  return Number(/^HTTP\/1\.1 (\d{3}) /.exec(received)?.[1])
}

/** A request of `lines`, without a body. */
export function head(...lines: string[]): string {
  return [...lines, '', ''].join('\r\n')
}

/** What a proxy that believes the other header would take for the next request. */
export const SMUGGLED = head('GET /healthz HTTP/1.1', 'Host: smuggled')
