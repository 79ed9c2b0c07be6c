import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import type { ServerFrame } from '../../../shared/protocol/events.ts'

/**
 * The network between a page and the edge, as a TCP proxy. The first stream of the page gets only the beginning of its
 * answer, until it is released or cut: the frames until two branches beside the root have text, however fast the answer
 * is made. All other connections, those of a reloaded page too, are as they are.
 */
export class Link {
  readonly #proxy: Server
  readonly #sockets = new Set<Socket>()
  /** Of the first stream: what is not let through yet. */
  readonly #held: (() => void)[] = []
  #first: { readonly client: Socket; readonly server: Socket } | undefined
  #open = true

  private constructor(target: URL) {
    this.#proxy = createServer((client) => {
      const server = connect(Number(target.port), target.hostname)
      for (const socket of [client, server]) {
        this.#sockets.add(socket)
        socket.on('error', () => {}).on('close', () => this.#sockets.delete(socket))
      }
      client.once('data', (request) => {
        const slow = !this.#first && request.includes('GET /v1/stream')
        server.write(slow ? withoutCompression(request) : request)
        client.pipe(server)
        if (slow) this.#slow(client, server)
        else server.pipe(client)
      })
    })
  }

  static async to(url: string): Promise<Link> {
    const link = new Link(new URL(url))
    link.#proxy.listen(0, '127.0.0.1')
    await once(link.#proxy, 'listening')
    return link
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#proxy.address() as AddressInfo).port}`
  }

  release(): void {
    this.#open = true
    for (const pass of this.#held.splice(0)) pass()
  }

  /** The connection of the first stream breaks. */
  cut(): void {
    this.#first?.client.destroy()
    this.#first?.server.destroy()
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy()
    this.#proxy.close()
  }

  #slow(client: Socket, server: Socket): void {
    this.#first = { client, server }
    const frames = new Frames()
    const growing = new Set<number>()
    let released = false
    server.on('data', (bytes) => {
      for (const { raw, text } of frames.read(bytes)) {
        this.#pass(() => client.write(raw))
        if (released) continue
        for (const branch of branchesWithText(text)) if (branch > 0) growing.add(branch)
        if (growing.size < 2) continue
        released = true
        this.#open = false
      }
    })
    server.on('end', () => this.#pass(() => client.end()))
  }

  #pass(deliver: () => void): void {
    if (this.#open) deliver()
    else this.#held.push(deliver)
  }
}

function withoutCompression(request: Buffer): string {
  return request.toString('latin1').replace(/^sec-websocket-extensions:.*\r\n/im, '')
}

function branchesWithText(frame: string): number[] {
  const event: ServerFrame | undefined = frame.startsWith('{') ? JSON.parse(frame) : undefined
  if (event?.type === 'delta') return [event.branch]
  return event?.type === 'deltas' ? event.texts.map(({ branch }) => branch) : []
}

/** Cuts what a server sends into the answer to the handshake and its frames, which are not masked. */
class Frames {
  #rest = Buffer.alloc(0)
  #upgraded = false

  read(bytes: Buffer): { raw: Buffer; text: string }[] {
    const whole: { raw: Buffer; text: string }[] = []
    this.#rest = Buffer.concat([this.#rest, bytes])
    for (;;) {
      const [begin, end] = this.#upgraded ? frameIn(this.#rest) : headIn(this.#rest)
      if (this.#rest.length < end) return whole
      whole.push({ raw: this.#rest.subarray(0, end), text: this.#rest.toString('utf8', begin, end) })
      this.#rest = this.#rest.subarray(end)
      this.#upgraded = true
    }
  }
}

type Range = readonly [begin: number, end: number]

/** Not there yet. */
const NOTHING: Range = [0, Number.POSITIVE_INFINITY]

function headIn(bytes: Buffer): Range {
  const end = bytes.indexOf('\r\n\r\n')
  return end === -1 ? NOTHING : [0, end + 4]
}

/** The payload of the first frame. */
function frameIn(bytes: Buffer): Range {
  const short = bytes[1] ?? 0
  const begin = short < 126 ? 2 : short === 126 ? 4 : 10
  if (bytes.length < begin) return NOTHING
  if (short < 126) return [begin, begin + short]
  return [begin, begin + (short === 126 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2)))]
}
