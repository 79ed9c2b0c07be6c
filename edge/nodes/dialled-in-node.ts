import { DurableObject } from 'cloudflare:workers'
import { CLOSE_REPLACED } from '../../shared/protocol/close-codes.ts'
import type { Env } from '../env.ts'
import { logTrouble } from '../log.ts'
import { fleetOf } from './fleet.ts'
import { NodeChannels } from './node-channels.ts'
import { SOCKET_PATH } from './node-socket.ts'

/**
 * How long streams wait for a node whose socket was lost to dial in again, before they move to another node. A living
 * node dials in at once. From the socket alone the edge cannot know whether the machine is dead.
 */
const REDIAL_MS = 500
/** The same for an object that has not seen the node yet: the edge was restarted, and the node has not noticed. */
const FIRST_DIAL_MS = 3_000

/**
 * One gpu node that has dialled in; the object's name is the node's id. Owns the node's socket, and opens a channel
 * on it for each StreamSession. Stores nothing: a node whose socket is lost dials in again, and the sessions attach
 * again.
 */
export class DialledInNode extends DurableObject<Env> {
  #channels: NodeChannels | undefined
  /** When the node's last socket was lost. */
  #lostAt: number | undefined
  /** Callbacks of sessions that wait for the node to dial in. */
  readonly #waiting = new Set<() => void>()

  override async fetch(request: Request): Promise<Response> {
    const { pathname, searchParams } = new URL(request.url)
    if (pathname === SOCKET_PATH) return this.#dialIn(searchParams.get('id') ?? '')
    const channels = this.#channels ?? (await this.#waitForDial())
    if (!channels) return new Response(null, { status: 503 })
    const { 0: session, 1: server } = new WebSocketPair()
    server.accept()
    channels.open(server)
    return new Response(null, { status: 101, webSocket: session })
  }

  #dialIn(id: string): Response {
    const { 0: node, 1: server } = new WebSocketPair()
    // Not hibernatable: heartbeats keep this object in memory anyway, and accepted sockets close at once.
    server.accept()
    const previous = this.#channels
    const channels: NodeChannels = new NodeChannels(server, {
      onHeartbeat: (heartbeat) => fleetOf(this.env).heartbeat(id, heartbeat),
      onClose: () => {
        if (this.#channels !== channels) return
        this.#channels = undefined
        this.#lostAt = Date.now()
        // No requests are routed to the node until its next heartbeat.
        this.ctx.waitUntil(fleetOf(this.env).deregister(id))
      },
      // Its streams move at once. It dials again, and is refused until its time is over.
      onNonsense: ({ code, message }) => this.ctx.waitUntil(fleetOf(this.env).suspend(id, { code, message })),
      onTooLong: (why) => {
        logTrouble(this.env, { node: id }, why)
        this.ctx.waitUntil(fleetOf(this.env).reportFailure(id))
      },
      log: (why) => logTrouble(this.env, { node: id }, why),
    })
    this.#channels = channels
    // A node dials in again only when it has lost its socket; this side may not have noticed.
    previous?.close(CLOSE_REPLACED)
    for (const wake of [...this.#waiting]) wake()
    return new Response(null, { status: 101, webSocket: node })
  }

  async #waitForDial(): Promise<NodeChannels | undefined> {
    const waitMs = this.#lostAt === undefined ? FIRST_DIAL_MS : this.#lostAt + REDIAL_MS - Date.now()
    if (waitMs <= 0) return undefined
    return new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer)
        this.#waiting.delete(wake)
        resolve(this.#channels)
      }
      const timer = setTimeout(wake, waitMs)
      this.#waiting.add(wake)
    })
  }
}
