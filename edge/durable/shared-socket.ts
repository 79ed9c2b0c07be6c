import { DurableObject } from 'cloudflare:workers'
import { AparError } from '../../shared/errors.ts'
import type { Origin } from '../../shared/protocol/node.ts'
import { type Env, limitsOf } from '../env.ts'
import { logTrouble } from '../log.ts'
import { type Principal, requireScope } from '../principal.ts'
import { limitError } from '../rates.ts'
import { connectToSession, readOrigin, readPrincipal } from '../session.ts'
import { Lanes, type Resumed } from './lanes.ts'

/**
 * One client socket that carries many requests, each in a StreamSession of its own. It keeps nothing but the sockets: a
 * client that loses it resumes its streams on another one.
 */
export class SharedSocket extends DurableObject<Env> {
  override async fetch(request: Request): Promise<Response> {
    const principal = readPrincipal(request)
    if (!principal) throw new Error('a shared socket needs a principal')
    const origin = readOrigin(request)
    const { 0: client, 1: server } = new WebSocketPair()
    server.accept()
    new Lanes(server, {
      connect: (resume) => this.#connect(principal, origin, resume),
      log: (why) => logTrouble(this.env, { socket: this.ctx.id.toString() }, why),
    })
    return new Response(null, { status: 101, webSocket: client })
  }

  /** What the handshake of a socket of its own asks: the key may have changed since the client came. */
  async #connect(
    known: Principal,
    origin: Origin | undefined,
    resume: Resumed | undefined,
  ): Promise<WebSocket> {
    const entered = await limitsOf(this.env, known.id).enter({ principal: known })
    if ('bad' in entered) throw new AparError('invalid_api_key', 'this API key is not valid any more')
    if (entered.retryAfterMs > 0) throw limitError('requests', entered.retryAfterMs)
    const { principal } = entered
    requireScope(principal, 'generate')
    return connectToSession(this.env, {
      principal,
      origin,
      acks: true,
      relayed: true,
      resume,
    })
  }
}
