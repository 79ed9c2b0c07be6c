import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

/** A TCP proxy between a node and its edge that can drop all connections, like a NAT router. */
export interface CuttableProxy {
  /** `http://host:port`. */
  readonly url: string
  /** Resets all connections. Returns their number. */
  cut(): number
  close(): Promise<void>
}

export async function startProxy(target: string): Promise<CuttableProxy> {
  const { hostname, port } = new URL(target)
  const connections = new Set<Socket>()
  const server = createServer((near) => {
    const far = connect(Number(port), hostname)
    connections.add(near)
    near
      .on('error', () => {})
      .on('close', () => {
        connections.delete(near)
        far.destroy()
      })
    far.on('error', () => {}).on('close', () => near.destroy())
    near.pipe(far).pipe(near)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const cut = () => {
    const { size } = connections
    for (const connection of connections) connection.resetAndDestroy()
    return size
  }
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    cut,
    close: async () => {
      cut()
      server.close()
      await once(server, 'close')
    },
  }
}
