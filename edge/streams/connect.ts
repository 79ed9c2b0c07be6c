import { AparError } from '../../shared/errors.ts'
import type { CallContext } from '../../shared/protocol/node.ts'
import type { Env } from '../env.ts'
import type { Reservation } from '../keys/admission.ts'
import type { Principal } from '../keys/principal.ts'
import type { SocketSlot } from '../keys/socket-slot.ts'
import { sessionHeaders } from './session-headers.ts'
import type { StreamSession } from './stream-session.ts'

export interface SessionOptions {
  /** Owns the stream: its limits apply, and only it may resume. Without one the caller applies the limits itself. */
  readonly principal?: Principal | undefined
  /** The stream's reservation in the principal's limits; without one its session makes one. */
  readonly reservation?: Reservation | undefined
  /** Of a new stream, as of `nodesOf`. */
  readonly affinity?: string | undefined
  /** The client sends `ack`. */
  readonly acks?: boolean | undefined
  /**
   * The reader passes the events on, and learns only later whether they have arrived: the stream is kept after its last
   * event until the reader closes with 1000 or its grace time ends.
   */
  readonly relayed?: boolean | undefined
  /** The reader gets the rows of the events, too: for the ids of the tokens. */
  readonly rows?: boolean | undefined
  readonly callContext?: CallContext | undefined
  /** Of the client's socket, which the session then gives back; undefined when the caller reads the stream itself. */
  readonly socketSlot?: SocketSlot | undefined
  /** Resumes this stream behind event `after`, instead of starting a new one. */
  readonly resume?: { readonly stream: string; readonly after: number } | undefined
}

/** A socket to a StreamSession, not accepted yet. @throws AparError `stream_not_found` for an invalid name. */
export async function connectToSession(env: Env, options: SessionOptions): Promise<WebSocket> {
  const { principal, reservation, affinity, acks, relayed, rows, callContext, socketSlot, resume } = options
  const url = new URL('https://session/')
  if (resume) url.searchParams.set('after', String(resume.after))
  if (acks) url.searchParams.set('flow', 'ack')
  if (relayed) url.searchParams.set('relayed', 'yes')
  if (rows) url.searchParams.set('rows', 'yes')
  const session = env.STREAM_SESSION.get(
    resume ? streamId(env, resume.stream) : env.STREAM_SESSION.newUniqueId(),
  )
  const { webSocket } = await session.fetch(url, {
    headers: {
      upgrade: 'websocket',
      ...sessionHeaders({ principal, callContext, reservation, affinity, socketSlot }),
    },
  })
  if (!webSocket) throw new Error('the stream session did not accept the WebSocket')
  return webSocket
}

/** Ends a stream for all its readers. @throws AparError `stream_not_found`, also for a stream of another principal. */
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
  socketSlot: SocketSlot | undefined,
): Promise<WebSocket> {
  const object = env.SHARED_SOCKET.get(env.SHARED_SOCKET.newUniqueId())
  const headers = { upgrade: 'websocket', ...sessionHeaders({ principal, callContext, socketSlot }) }
  const { webSocket } = await object.fetch('https://shared-socket/', { headers })
  if (!webSocket) throw new Error('the shared socket did not accept the WebSocket')
  return webSocket
}

function streamId(env: Env, name: string): DurableObjectId {
  try {
    return env.STREAM_SESSION.idFromString(name)
  } catch (cause) {
    throw new AparError('stream_not_found', 'this is not a valid stream name', { cause })
  }
}
