import type { Context } from 'hono'
import { z } from 'zod'
import { AparError } from '../../shared/errors.ts'
import { parse } from '../../shared/parse.ts'
import { MULTIPLEX_SUBPROTOCOL, SUBPROTOCOL } from '../../shared/protocol/version.ts'
import type { AppEnv } from '../app-env.ts'
import { isUpgrade, offeredSubprotocols } from '../handshake.ts'
import { cancelSession, connectToSession, connectToSharedSocket } from '../streams/connect.ts'

/** Which stream to resume, and what the client supports. A `ticket` may be there, too; authenticate.ts reads it. */
const StreamQuery = z
  .object({
    stream: z.string().max(64).optional(),
    /** The last event that the client has. */
    after: z.coerce.number().int().min(-1).default(-1),
    flow: z.literal('ack').optional(),
  })
  .refine(({ stream, after }) => stream !== undefined || after === -1, {
    path: ['after'],
    error: 'needs stream',
  })
type StreamQuery = z.infer<typeof StreamQuery>

const SUBPROTOCOLS: readonly string[] = [SUBPROTOCOL, MULTIPLEX_SUBPROTOCOL]

/**
 * `GET /v1/stream`: connects the client's WebSocket to a StreamSession, or to a SharedSocket for many requests on one
 * socket. See docs/protocol.md.
 */
export async function openStream(c: Context<AppEnv>): Promise<Response> {
  const request = c.req.raw
  if (!isUpgrade(request)) throw new AparError('upgrade_required', '/v1/stream accepts WebSocket only')
  const offered = offeredSubprotocols(request)
  const subprotocol = offered.find((name) => SUBPROTOCOLS.includes(name))
  if (offered.length > 0 && !subprotocol)
    throw new AparError('invalid_request', `the subprotocols are ${SUBPROTOCOLS.join(' and ')}`)
  const query = parse(StreamQuery, c.req.query())
  const shared = subprotocol === MULTIPLEX_SUBPROTOCOL
  const webSocket = await (shared ? openShared(c, query) : openSingle(c, query))
  const headers = new Headers()
  if (subprotocol) headers.set('sec-websocket-protocol', subprotocol)
  return new Response(null, { status: 101, webSocket, headers })
}

/** `DELETE /v1/streams/{id}`: as the `cancel` frame, for clients without a WebSocket. */
export async function cancelStream(c: Context<AppEnv>): Promise<Response> {
  await cancelSession(c.env, c.get('principal'), c.req.param('id') ?? '')
  return c.body(null, 204)
}

function openSingle(c: Context<AppEnv>, { stream, after, flow }: StreamQuery): Promise<WebSocket> {
  return connectToSession(c.env, {
    principal: c.get('principal'),
    callContext: c.get('callContext'),
    socketSlot: c.get('socketSlot'),
    acks: flow === 'ack',
    resume: stream === undefined ? undefined : { stream, after },
  })
}

function openShared(c: Context<AppEnv>, { stream }: StreamQuery): Promise<WebSocket> {
  if (stream !== undefined)
    throw new AparError('invalid_request', 'stream: use a resume frame', { param: 'stream' })
  return connectToSharedSocket(c.env, c.get('principal'), c.get('callContext'), c.get('socketSlot'))
}
