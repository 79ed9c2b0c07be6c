import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'

/**
 * The network between a page and the edge, as a TCP proxy. The first stream of the page gets only so many bytes until it
 * is released or cut; all other connections, those of a reloaded page too, are as they are.
 */
export class Link {
  readonly #proxy: Server
  readonly #sockets = new Set<Socket>()
  /** Of the first stream: what is not let through yet. */
  readonly #held: (() => void)[] = []
  #first: { readonly client: Socket; readonly server: Socket } | undefined
  #bytesLeft: number

  private constructor(target: URL, bytes: number) {
    this.#bytesLeft = bytes
    this.#proxy = createServer((client) => {
      const server = connect(Number(target.port), target.hostname)
      for (const socket of [client, server]) {
        this.#sockets.add(socket)
        socket.on('error', () => {}).on('close', () => this.#sockets.delete(socket))
      }
      client.once('data', (request) => {
        server.write(request)
        client.pipe(server)
        if (this.#first || !request.includes('GET /v1/stream')) server.pipe(client)
        else this.#slow(client, server)
      })
    })
  }

  /** `bytes`: of the first stream, with the answer to its handshake. */
  static async to(url: string, bytes: number): Promise<Link> {
    const link = new Link(new URL(url), bytes)
    link.#proxy.listen(0, '127.0.0.1')
    await once(link.#proxy, 'listening')
    return link
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#proxy.address() as AddressInfo).port}`
  }

  release(): void {
    this.#bytesLeft = Number.POSITIVE_INFINITY
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
    server.on('data', (bytes) => {
      const fitting = bytes.subarray(0, Math.max(0, this.#bytesLeft))
      this.#bytesLeft -= fitting.length
      client.write(fitting)
      const rest = bytes.subarray(fitting.length)
      if (rest.length > 0) this.#pass(() => client.write(rest))
    })
    server.on('end', () => this.#pass(() => client.end()))
  }

  #pass(deliver: () => void): void {
    if (this.#bytesLeft > 0) deliver()
    else this.#held.push(deliver)
  }
}
