import { DurableObject } from 'cloudflare:workers'
import { AparError } from '../../../shared/errors.ts'
import type { CallContext } from '../../../shared/protocol/node.ts'
import type { Env } from '../../env.ts'
import { limitError } from '../../keys/budget/rates.ts'
import { limitsOf } from '../../keys/key-limits.ts'
import { type Principal, requireScope } from '../../keys/principal.ts'
import { logTrouble } from '../../log.ts'
import { connectToSession } from '../connect.ts'
import { readSessionHeaders } from '../session-headers.ts'
import { Lanes, type Resumed } from './multiplexed-streams.ts'

/**
 * One client socket that carries many requests, each in a StreamSession of its own. It keeps nothing but the sockets: a
 * client that loses it resumes its streams on another one.
 */
export class SharedSocket extends DurableObject<Env> {
  override async fetch(request: Request): Promise<Response> {
    const { principal, callContext } = readSessionHeaders(request)
    if (!principal) throw new Error('a shared socket needs a principal')
    const { 0: client, 1: server } = new WebSocketPair()
    server.accept()
    new Lanes(server, {
      connect: (resume) => this.#connect(principal, callContext, resume),
      log: (why) => logTrouble(this.env, { socket: this.ctx.id.toString() }, why),
    })
    return new Response(null, { status: 101, webSocket: client })
  }

  /** What the handshake of a socket of its own asks: the key may have changed since the client came. */
  async #connect(
    known: Principal,
    callContext: CallContext | undefined,
    resume: Resumed | undefined,
  ): Promise<WebSocket> {
    const entered = await limitsOf(this.env, known.id).enter({ principal: known })
    if ('bad' in entered) throw new AparError('invalid_api_key', 'this API key is not valid any more')
    if (entered.retryAfterMs > 0) throw limitError('requests', entered.retryAfterMs)
    const { principal } = entered
    requireScope(principal, 'generate')
    return connectToSession(this.env, {
      principal,
      callContext,
      acks: true,
      relayed: true,
      resume,
    })
  }
}
