import type { Context } from 'hono'
import { AparError } from '../../shared/errors.ts'
import { SUBPROTOCOL } from '../../shared/protocol/version.ts'
import type { AppEnv } from '../env.ts'
import { connectToSession } from '../session.ts'
import { isUpgrade, offeredSubprotocols } from '../subprotocols.ts'

/** `GET /v1/stream`: hands the client's WebSocket to a new StreamSession. See docs/protocol.md. */
export async function openStream(c: Context<AppEnv>): Promise<Response> {
  const request = c.req.raw
  if (!isUpgrade(request)) throw new AparError('upgrade_required', '/v1/stream speaks WebSocket only')
  const offered = offeredSubprotocols(request)
  if (offered.length > 0 && !offered.includes(SUBPROTOCOL)) {
    throw new AparError('invalid_request', `the only subprotocol is ${SUBPROTOCOL}`)
  }
  const webSocket = await connectToSession(c.env)
  const headers = new Headers()
  if (offered.length > 0) headers.set('sec-websocket-protocol', SUBPROTOCOL)
  return new Response(null, { status: 101, webSocket, headers })
}
