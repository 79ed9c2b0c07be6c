import { AparError } from '../../shared/errors.ts'
import type { CallContext } from '../../shared/protocol/node.ts'
import type { Env } from '../env.ts'
import type { Lease } from '../keys/admission.ts'
import type { Principal } from '../keys/principal.ts'
import { sessionHeaders } from './session-headers.ts'
import type { StreamSession } from './stream-session.ts'

export interface SessionOptions {
  /** Whose stream it is: their limits hold, and only they may resume it. Without one the caller sees to limits itself. */
  readonly principal?: Principal | undefined
  /** The place in the principal's limits that the stream has already; without one its session takes one. */
  readonly lease?: Lease | undefined
  /** The client sends `ack`. */
  readonly acks?: boolean | undefined
  /**
   * Whoever reads this passes it on, and learns late what has arrived: the stream stays after its last event, until the
   * reader closes with 1000 or its grace time ends.
   */
  readonly relayed?: boolean | undefined
  /** Whose call begins the stream. */
  readonly callContext?: CallContext | undefined
  /** The stream to go on with, behind event `after`, instead of a new one. */
  readonly resume?: { readonly stream: string; readonly after: number } | undefined
}

/** A socket to a StreamSession, not accepted yet. @throws AparError `stream_not_found` for a name that is none. */
export async function connectToSession(env: Env, options: SessionOptions): Promise<WebSocket> {
  const { principal, lease, acks, relayed, callContext, resume } = options
  const url = new URL('https://session/')
  if (resume) url.searchParams.set('after', String(resume.after))
  if (acks) url.searchParams.set('flow', 'ack')
  if (relayed) url.searchParams.set('relayed', 'yes')
  const session = env.STREAM_SESSION.get(
    resume ? streamId(env, resume.stream) : env.STREAM_SESSION.newUniqueId(),
  )
  const { webSocket } = await session.fetch(url, {
    headers: {
      upgrade: 'websocket',
      ...sessionHeaders({ principal, callContext, lease }),
    },
  })
  if (!webSocket) throw new Error('the stream session took no WebSocket')
  return webSocket
}

/** Ends a stream for whoever reads it. @throws AparError `stream_not_found`, also for a stream of somebody else. */
export async function cancelSession(env: Env, principal: Principal, stream: string): Promise<void> {
  const session = env.STREAM_SESSION.get(streamId(env, stream)) as DurableObjectStub<StreamSession>
  if (await session.cancel(principal)) return
  throw new AparError('stream_not_found', 'there is no such stream, or it cannot be resumed')
}

/** A socket for many requests of one principal, not accepted yet. */
export async function connectToSharedSocket(
  env: Env,
  principal: Principal,
  callContext: CallContext,
): Promise<WebSocket> {
  const object = env.SHARED_SOCKET.get(env.SHARED_SOCKET.newUniqueId())
  const headers = { upgrade: 'websocket', ...sessionHeaders({ principal, callContext }) }
  const { webSocket } = await object.fetch('https://shared-socket/', { headers })
  if (!webSocket) throw new Error('the shared socket took no WebSocket')
  return webSocket
}

function streamId(env: Env, name: string): DurableObjectId {
  try {
    return env.STREAM_SESSION.idFromString(name)
  } catch (cause) {
    throw new AparError('stream_not_found', 'this is not the name of a stream', { cause })
  }
}
