import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import WebSocket, { WebSocketServer } from 'ws'
import { ControlSocket } from '../../../gpu-node/edge-link/control-socket.ts'
import { serveRequest } from '../../../gpu-node/requests/request-socket.ts'
import { silent } from '../../support/logs.ts'
import { FROM_DIALLED_IN } from './examples.ts'
import { pacedStreams } from './paced-streams.ts'
import { closed, inTime, type SendInputs } from './sockets.ts'

const CLOSE_BAD_FRAME = 4400
const CLOSE_PROTOCOL_ERROR = 1002
const HEARTBEAT = JSON.stringify(FROM_DIALLED_IN[0])

/**
 * Sends frames to the edge on a dialled-in node's socket, then a heartbeat: expects a lease, or a close code for
 * a bad frame. Each case is a node of its own, because one that has sent nonsense is suspended.
 */
export function fuzzDialIn(url: string, secret: string): SendInputs {
  let dialled = 0
  return async (frames) => {
    const path = `${url.replace('http', 'ws')}/internal/v1/nodes/fuzzed-${dialled++}/socket`
    const socket = new WebSocket(path, { headers: { authorization: `Bearer ${secret}` } })
    const leased = new Promise<number>((resolve) => socket.once('message', () => resolve(0)))
    const end = closed(socket)
    await once(socket, 'open')
    for (const frame of [...frames, HEARTBEAT]) socket.send(frame, { binary: false })
    const code = await inTime(Promise.race([leased, end]))
    if (code !== 0 && code !== CLOSE_BAD_FRAME) throw new Error(`closed with ${code}`)
    socket.close()
    await inTime(end)
  }
}

/** Sends frames from a fake edge to a gpu node's control socket in this process. */
export async function fuzzControlSocket(): Promise<{ send: SendInputs; close: () => Promise<void> }> {
  const streams = await pacedStreams()
  const edge = new WebSocketServer({ port: 0, host: '127.0.0.1' })
  await once(edge, 'listening')
  edge.setMaxListeners(0)
  const { port } = edge.address() as AddressInfo
  // A unique path identifies the connection of each case.
  let cases = 0
  const send: SendInputs = async (frames) => {
    const path = `/${cases++}`
    const taken = new Promise<WebSocket>((resolve) => {
      const take = (socket: WebSocket, request: { url?: string }) => {
        if (request.url !== path) return
        edge.off('connection', take)
        resolve(socket)
      }
      edge.on('connection', take)
    })
    const control = await ControlSocket.open({
      url: `ws://127.0.0.1:${port}${path}`,
      nodeSecret: 'secret',
      serve: (channel) => serveRequest(channel, streams),
      onMessage: () => {},
      onLease: () => {},
      onClose: () => {},
      log: silent,
    })
    const socket = await taken
    const end = closed(socket)
    let internal = false
    socket.on('message', (data) => {
      internal ||= String(data).includes('internal_error')
    })
    for (const frame of frames) socket.send(frame, { binary: false })
    // The pong arrives after all frames have been handled, unless the node closes the socket.
    socket.ping()
    const code = await inTime(Promise.race([once(socket, 'pong').then(() => 0), end]))
    if (code !== 0 && code !== CLOSE_PROTOCOL_ERROR) throw new Error(`closed with ${code}`)
    if (internal) throw new Error('internal_error')
    await control.close()
  }
  return {
    send,
    close: async () => {
      edge.close()
      await once(edge, 'close')
    },
  }
}
