import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type WebSocket, WebSocketServer } from 'ws'

/**
 * One step of what the fake node does. Events get their `stream` and, unless given, their `seq` filled in.
 * `await: 'frame'` waits for the next frame after `start`; `die` drops the connection without a closing handshake.
 */
type Step =
  | { type: string; seq?: number }
  | { await: 'frame' }
  | { raw: string }
  | { die: true }
  | { hang: true }

interface Seen {
  frames: { type: string }[]
  closed: boolean
}

/**
 * A gpu node that does what the prompt says: the last message's content is a JSON list of steps. A url ending in
 * `/busy` answers every request 503. `GET /seen/<stream>` tells, once the stream's socket has closed, what it got.
 */
export async function startFakeNode(secret: string): Promise<{ url: string; close: () => void }> {
  const seen = new Map<string, Seen>()
  const sockets = new WebSocketServer({ noServer: true })
  const server = createServer((request, response) => void report(seen, request, response))
  server.on('upgrade', (request, socket, head) => {
    if (request.url !== '/v1/requests' || request.headers.authorization !== `Bearer ${secret}`) {
      socket.end(`HTTP/1.1 ${request.url?.startsWith('/busy') ? 503 : 401} No\r\nConnection: close\r\n\r\n`)
      return
    }
    sockets.handleUpgrade(request, socket, head, (webSocket) => void serve(webSocket, seen))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return { url: `ws://127.0.0.1:${port}`, close: () => server.close() }
}

async function serve(socket: WebSocket, seen: Map<string, Seen>): Promise<void> {
  const record: Seen = { frames: [], closed: false }
  const frames = new Notifier()
  socket.on('error', () => {})
  socket.on('close', () => {
    record.closed = true
    frames.notify()
  })
  socket.on('message', (data) => {
    record.frames.push(JSON.parse(String(data)))
    frames.notify()
  })
  await frames.until(() => record.frames.length > 0)
  const start = record.frames[0] as unknown as {
    stream: string
    request: { messages: { content: string }[] }
  }
  seen.set(start.stream, record)
  let seq = 0
  for (const step of JSON.parse(start.request.messages.at(-1)?.content ?? '[]') as Step[]) {
    if ('await' in step) {
      const had = record.frames.length
      await frames.until(() => record.frames.length > had || record.closed)
    } else if ('raw' in step) {
      socket.send(step.raw)
    } else if ('die' in step) {
      socket.terminate()
    } else if ('hang' in step) {
      return
    } else {
      socket.send(JSON.stringify({ seq: seq++, stream: start.stream, ...step }))
    }
  }
}

async function report(
  seen: Map<string, Seen>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const stream = request.url?.match(/^\/seen\/(.+)$/)?.[1] ?? ''
  while (!seen.get(stream)?.closed) await new Promise((resolve) => setTimeout(resolve, 5))
  response.end(JSON.stringify(seen.get(stream)?.frames))
}

class Notifier {
  #wake = () => {}

  notify(): void {
    this.#wake()
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }
}
