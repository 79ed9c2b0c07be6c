import { DurableObject } from 'cloudflare:workers'
import { CLOSE_REPLACED } from '../../shared/protocol/close-codes.ts'
import type { Env } from '../env.ts'
import { logTrouble } from '../log.ts'
import { fleetOf } from './fleet.ts'
import { NodeChannels } from './node-channels.ts'
import { SOCKET_PATH } from './node-socket.ts'

/**
 * How long after the loss of its socket streams wait for a node to dial again, which it does at once; then they move to
 * another one. Of a socket that was cut nobody here can know whether the machine is dead.
 */
const REDIAL_MS = 500
/** An object that has just been made never saw the node: the edge was restarted, and the node does not know yet. */
const FIRST_DIAL_MS = 3_000

/**
 * One gpu node that has dialled in, by its id: has the node's socket, and gives each StreamSession a channel of it.
 * Keeps nothing: a node whose socket is lost dials again, and sessions attach to their streams' logs again.
 */
export class DialledInNode extends DurableObject<Env> {
  #channels: NodeChannels | undefined
  /** When the node's last socket was lost. */
  #lostAt: number | undefined
  /** Sessions that wait for the node to dial again. */
  readonly #waiting = new Set<() => void>()

  override async fetch(request: Request): Promise<Response> {
    const { pathname, searchParams } = new URL(request.url)
    if (pathname === SOCKET_PATH) return this.#dialIn(searchParams.get('id') ?? '')
    const channels = this.#channels ?? (await this.#redialled())
    if (!channels) return new Response(null, { status: 503 })
    const { 0: session, 1: server } = new WebSocketPair()
    server.accept()
    channels.open(server)
    return new Response(null, { status: 101, webSocket: session })
  }

  #dialIn(id: string): Response {
    const { 0: node, 1: server } = new WebSocketPair()
    // Not hibernatable: a heart-beat every few seconds keeps this object awake anyway, and accepted sockets close at once.
    server.accept()
    const previous = this.#channels
    const channels: NodeChannels = new NodeChannels(server, {
      onHeartbeat: (heartbeat) => fleetOf(this.env).beat(id, heartbeat),
      onGone: () => {
        if (this.#channels !== channels) return
        this.#channels = undefined
        this.#lostAt = Date.now()
        // Its next heart-beat brings it back; until then nobody should be sent there.
        this.ctx.waitUntil(fleetOf(this.env).leave(id))
      },
      log: (why) => logTrouble(this.env, { node: id }, why),
    })
    this.#channels = channels
    // Whoever has the older socket does not know yet that it is lost.
    previous?.close(CLOSE_REPLACED)
    for (const wake of [...this.#waiting]) wake()
    return new Response(null, { status: 101, webSocket: node })
  }

  async #redialled(): Promise<NodeChannels | undefined> {
    const patience = this.#lostAt === undefined ? FIRST_DIAL_MS : this.#lostAt + REDIAL_MS - Date.now()
    if (patience <= 0) return undefined
    return new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer)
        this.#waiting.delete(wake)
        resolve(this.#channels)
      }
      const timer = setTimeout(wake, patience)
      this.#waiting.add(wake)
    })
  }
}
