import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type WebSocket, WebSocketServer } from 'ws'

/**
 * One step of the fake node. An event gets its `stream` and, unless given, its `seq`, and is sent in a batch of its
 * own, with `rows` if it has some. `await: 'frame'` waits for the next frame, or one of this type; `drop` cuts the connection and continues when
 * the edge attaches again; `die` cuts it and forgets the stream; `restart` closes with 1012 as a node that shuts down
 * does, and forgets the stream; `hang` sends nothing more; `hangOnce` does so for the first stream of all with this
 * name in it; `raw` sends a text that may be invalid, `flood` so many MiB of text, `tooLong` a text of so many
 * characters.
 */
type Step =
  | { type: string; seq?: number; rows?: number[] }
  | { await: 'frame' | 'attach' | 'cancel_branch' }
  | { raw: string }
  | { flood: number }
  | { tooLong: number }
  | { drop: true }
  | { die: true }
  | { restart: true }
  | { hang: true }
  | { hangOnce: string }

interface Frame {
  type: string
  stream: string
  after?: number
  log?: Batch[]
  request: { messages: { content: string }[] }
}

interface Batch {
  rows: number[]
  events: object[]
}

interface Stream {
  frames: Frame[]
  /** One for each event. */
  batches: Batch[]
  starts: number
  known: boolean
  socket: WebSocket | undefined
}

/**
 * A gpu node that runs a script from the prompt: the last message's content is a JSON list of steps, or a list of such
 * lists, one for each time that the stream is started. A url ending in `/busy` answers every request 503; with any
 * other path the same server plays another node. `GET /hung/<name>` is answered with a stream's name once it has
 * reached that `hangOnce`. `GET /seen/<stream>` returns the frames that the node got, once the stream's sockets have closed.
 */
export async function startFakeNode(secret: string): Promise<{ url: string; close: () => void }> {
  const streams = new Map<string, Stream>()
  const sockets = new WebSocketServer({ noServer: true })
  const server = createServer((request, response) => void report(streams, request, response))
  server.on('upgrade', (request, socket, head) => {
    if (request.url?.startsWith('/busy') || request.headers.authorization !== `Bearer ${secret}`) {
      socket.end(`HTTP/1.1 ${request.url?.startsWith('/busy') ? 503 : 401} No\r\nConnection: close\r\n\r\n`)
      return
    }
    sockets.handleUpgrade(request, socket, head, (webSocket) => serve(webSocket, streams))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return { url: `ws://127.0.0.1:${port}`, close: () => server.close() }
}

function serve(socket: WebSocket, streams: Map<string, Stream>): void {
  let stream: Stream | undefined
  socket.on('error', () => {})
  socket.on('close', () => {
    if (stream?.socket === socket) stream.socket = undefined
    notify()
  })
  socket.on('message', (data) => {
    const frame: Frame = JSON.parse(String(data))
    if (frame.type === 'start' || frame.type === 'attach') {
      stream = streams.get(frame.stream) ?? {
        frames: [],
        batches: [],
        starts: 0,
        known: false,
        socket: undefined,
      }
      streams.set(frame.stream, stream)
      stream.socket = socket
    }
    stream?.frames.push(frame)
    notify()
    if (frame.type === 'start') {
      void play(stream as Stream, frame)
    } else if (frame.type === 'attach') {
      const gone = [{ rows: [], events: [notFound] }]
      const batches = stream?.known ? stream.batches.slice((frame.after ?? -1) + 1) : gone
      for (const batch of batches) socket.send(JSON.stringify(batch))
    }
  })
}

/** Which stream has reached a step `hangOnce`, by the step's name. */
const hung = new Map<string, string>()
const notFound = { type: 'error', seq: 0, code: 'stream_not_found', message: 'not here', param: null }

async function play(stream: Stream, start: Frame): Promise<void> {
  const content = JSON.parse(start.request.messages.at(-1)?.content ?? '[]') as Step[] | Step[][]
  const scripts = Array.isArray(content[0]) ? (content as Step[][]) : [content as Step[]]
  const script = scripts[Math.min(stream.starts++, scripts.length - 1)] ?? []
  stream.batches = [...(start.log ?? [])]
  stream.known = true
  for (const step of script) {
    if ('await' in step) {
      const had = stream.frames.length
      const { await: wanted } = step
      if (wanted === 'frame') await until(() => stream.frames.length > had || !stream.socket)
      else await until(() => stream.frames.slice(had).some(({ type }) => type === wanted))
    } else if ('raw' in step) {
      stream.socket?.send(step.raw)
    } else if ('flood' in step) {
      const text = 'x'.repeat(1024 * 1024)
      const event = { type: 'delta', branch: 0, text, seq: stream.batches.length }
      const frame = JSON.stringify({ rows: [], events: [event] })
      for (let sent = 0; sent < step.flood; sent++) stream.socket?.send(frame)
    } else if ('tooLong' in step) {
      stream.socket?.send(' '.repeat(step.tooLong))
    } else if ('drop' in step) {
      const gone = stream.socket
      gone?.terminate()
      await until(() => stream.socket !== gone && stream.socket !== undefined)
    } else if ('die' in step) {
      stream.known = false
      stream.socket?.terminate()
      return
    } else if ('restart' in step) {
      stream.known = false
      stream.socket?.close(1012)
      return
    } else if ('hang' in step) {
      return
    } else if ('hangOnce' in step) {
      if (hung.has(step.hangOnce)) continue
      hung.set(step.hangOnce, start.stream)
      notify()
      return
    } else {
      const { rows = [1, 0, stream.batches.length + 1, 0], ...event } = step
      const events = [{ seq: stream.batches.length, stream: start.stream, ...event }]
      stream.batches.push({ rows, events })
      stream.socket?.send(JSON.stringify({ rows, events }))
    }
  }
}

async function report(
  streams: Map<string, Stream>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const [, hangs] = request.url?.match(/^\/hung\/(.+)$/) ?? []
  if (hangs !== undefined) {
    await until(() => hung.has(hangs))
    response.end(hung.get(hangs))
    return
  }
  const name = request.url?.match(/^\/seen\/(.+)$/)?.[1] ?? ''
  await until(() => streams.has(name) && streams.get(name)?.socket === undefined)
  response.end(JSON.stringify(streams.get(name)?.frames))
}

const waiting = new Set<() => void>()

function notify(): void {
  for (const wake of [...waiting]) wake()
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) {
    await new Promise<void>((resolve) => {
      const wake = () => {
        waiting.delete(wake)
        resolve()
      }
      waiting.add(wake)
    })
  }
}
