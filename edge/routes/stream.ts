import type { Context } from 'hono'
import { z } from 'zod'
import { AparError } from '../../shared/errors.ts'
import { parse } from '../../shared/parse.ts'
import { SUBPROTOCOL } from '../../shared/protocol/version.ts'
import type { AppEnv } from '../env.ts'
import { connectToSession } from '../session.ts'
import { isUpgrade, offeredSubprotocols } from '../subprotocols.ts'

/** Which stream a client comes back to, and what it can do. Its key may stand here, too, for other parts of the edge. */
const StreamQuery = z.object({
  stream: z.string().max(64).optional(),
  /** The last event that it has. */
  after: z.coerce.number().int().min(-1).default(-1),
  flow: z.literal('ack').optional(),
})

/** `GET /v1/stream`: hands the client's WebSocket to a StreamSession. See docs/protocol.md. */
export async function openStream(c: Context<AppEnv>): Promise<Response> {
  const request = c.req.raw
  if (!isUpgrade(request)) throw new AparError('upgrade_required', '/v1/stream speaks WebSocket only')
  const offered = offeredSubprotocols(request)
  if (offered.length > 0 && !offered.includes(SUBPROTOCOL)) {
    throw new AparError('invalid_request', `the only subprotocol is ${SUBPROTOCOL}`)
  }
  const { stream, after, flow } = parse(StreamQuery, c.req.query())
  const webSocket = await connectToSession(c.env, {
    principal: c.get('principal'),
    resumable: true,
    acks: flow === 'ack',
    resume: stream === undefined ? undefined : { stream, after },
  })
  const headers = new Headers()
  if (offered.length > 0) headers.set('sec-websocket-protocol', SUBPROTOCOL)
  return new Response(null, { status: 101, webSocket, headers })
}
