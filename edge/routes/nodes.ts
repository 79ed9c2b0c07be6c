import type { Context } from 'hono'
import { z } from 'zod'
import { AparError } from '../../shared/errors.ts'
import { parse, parseJson } from '../../shared/parse.ts'
import { Heartbeat } from '../../shared/protocol/fleet.ts'
import type { AppEnv } from '../app-env.ts'
import { isUpgrade } from '../handshake.ts'
import { bodyText } from '../middleware/request-body.ts'
import { fleetOf } from '../nodes/fleet.ts'
import { dialledInNodeOf, SOCKET_PATH } from '../nodes/node-socket.ts'

const NodePath = z.object({ id: z.string().regex(/^[A-Za-z0-9._-]{1,64}$/, 'not a valid node id') })

/** A gpu node's heartbeat: registers the node, or renews its lease. */
export async function registerNode(c: Context<AppEnv>): Promise<Response> {
  const { id } = parse(NodePath, c.req.param())
  const heartbeat = parseJson(Heartbeat, await bodyText(c))
  if (heartbeat.url === undefined) {
    throw new AparError('invalid_request', 'url: is required, unless the node dials in', { param: 'url' })
  }
  if (!isAllowedHost(new URL(heartbeat.url).hostname, c.env.NODE_HOSTS)) {
    throw new AparError('node_host_not_allowed', 'the edge does not connect to this host: see NODE_HOSTS', {
      param: 'url',
    })
  }
  const lease = await fleetOf(c.env).heartbeat(id, heartbeat)
  if ('suspendedMs' in lease) throw suspended(lease.suspendedMs)
  return c.json(lease)
}

/**
 * A gpu node that the edge cannot connect to opens a socket, over which it serves all its streams: docs/protocol.md.
 */
export async function dialIn(c: Context<AppEnv>): Promise<Response> {
  const { id } = parse(NodePath, c.req.param())
  if (!isUpgrade(c.req.raw)) throw new AparError('upgrade_required', 'a gpu node dials in by WebSocket')
  const suspendedMs = await fleetOf(c.env).suspendedMs(id)
  if (suspendedMs > 0) throw suspended(suspendedMs)
  const { webSocket } = await dialledInNodeOf(c.env, id).fetch(`https://node${SOCKET_PATH}?id=${id}`, {
    headers: { upgrade: 'websocket' },
  })
  return new Response(null, { status: 101, webSocket })
}

/** A gpu node deregisters: it gets no more requests. */
export async function deregisterNode(c: Context<AppEnv>): Promise<Response> {
  const { id } = parse(NodePath, c.req.param())
  if (!(await fleetOf(c.env).deregister(id))) throw new AparError('not_found', `node ${id} is not registered`)
  return c.body(null, 204)
}

function suspended(ms: number): AparError {
  const seconds = Math.ceil(ms / 1000)
  const message = `the edge got invalid data from this gpu node, and accepts it again in ${seconds} s`
  return new AparError('node_suspended', message, { retryAfterSeconds: seconds })
}

const THIS_MACHINE = '127.0.0.1,localhost,[::1]'

/** With the node secret one can make the edge open connections, but only to hosts that the configuration allows. */
export function isAllowedHost(host: string, allowed = THIS_MACHINE): boolean {
  return allowed.split(',').some((entry) => {
    const pattern = entry.trim().toLowerCase()
    return pattern.startsWith('*.') ? host.endsWith(pattern.slice(1)) : host === pattern
  })
}
