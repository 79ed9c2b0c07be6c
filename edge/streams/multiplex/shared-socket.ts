import { DurableObject } from 'cloudflare:workers'
import { AparError } from '../../../shared/errors.ts'
import type { CallContext } from '../../../shared/protocol/node.ts'
import type { Env } from '../../env.ts'
import { limitError } from '../../keys/budget/rates.ts'
import { limitsOf } from '../../keys/key-limits.ts'
import { type Principal, requireScope } from '../../keys/principal.ts'
import { keepSlot } from '../../keys/socket-slot.ts'
import { logTrouble } from '../../log.ts'
import { connectToSession } from '../connect.ts'
import { readSessionHeaders } from '../session-headers.ts'
import { MultiplexedStreams, type Resumed } from './multiplexed-streams.ts'

/**
 * One client socket with many streams, each in its own StreamSession. The object has no state except the sockets: a
 * client that was disconnected resumes its streams on another shared socket.
 */
export class SharedSocket extends DurableObject<Env> {
  override async fetch(request: Request): Promise<Response> {
    const { principal, callContext, socketSlot } = readSessionHeaders(request)
    if (!principal) throw new Error('a shared socket needs a principal')
    const { 0: client, 1: server } = new WebSocketPair()
    server.accept()
    if (socketSlot) keepSlot(this.env, socketSlot, server)
    new MultiplexedStreams(server, {
      connect: (resume) => this.#connect(principal, callContext, resume),
      log: (why) => logTrouble(this.env, { socket: this.ctx.id.toString() }, why),
    })
    return new Response(null, { status: 101, webSocket: client })
  }

  /** Authorizes each stream as the handshake of an ordinary socket does: the key may have changed meanwhile. */
  async #connect(
    known: Principal,
    callContext: CallContext | undefined,
    resume: Resumed | undefined,
  ): Promise<WebSocket> {
    const authorization = await limitsOf(this.env, known.id).authorize({ principal: known })
    if ('bad' in authorization) throw new AparError('invalid_api_key', 'this API key is not valid any more')
    const { principal, retryAfterMs } = authorization
    if (retryAfterMs > 0) throw limitError('requests', retryAfterMs)
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
