import { z } from 'zod'
import type { ErrorCode } from '../errors.ts'
import type { KeepAliveFrame, ServerFrame } from './events.ts'
import { Ack, Cancel, CancelBranch, Generate } from './frames.ts'

/**
 * Many requests on one socket, subprotocol `apar.mux.v1`: the frames of a socket of its own, each with the `id` of its
 * request. See docs/protocol.md.
 */

/** A request's name on its socket, of the client's choosing; free again after the request's last event. */
const id = z.string().min(1).max(64)

/** Goes on with a stream behind event `after`, as `?stream=&after=` does for a socket of its own. */
const Resume = z.strictObject({
  type: z.literal('resume'),
  stream: z.string().max(64),
  after: z.int().min(-1),
})
export type ResumeFrame = z.infer<typeof Resume>

export const MultiplexedFrame = z.discriminatedUnion('type', [
  Generate.extend({ id }),
  Resume.extend({ id }),
  Cancel.extend({ id }),
  CancelBranch.extend({ id }),
  Ack.extend({ id }),
])
export type MultiplexedFrame = z.infer<typeof MultiplexedFrame>

/** As much of a frame as tells whose it is. */
export const Addressed = z.object({ id })

/** Why a request's connection ended before the request did; what a close code says on a socket of its own. */
export type CutReason = 'slow_client' | 'replaced' | 'lost'

/** The request goes on for its grace time; `resume` reads on. Its `id` is free. */
export interface CutFrame {
  readonly type: 'cut'
  readonly reason: CutReason
}

/** About a frame that names no request. */
export interface SocketErrorFrame {
  readonly type: 'error'
  readonly code: ErrorCode
  readonly message: string
  readonly param: string | null
}

/** What a client gets. */
export type MultiplexedServerFrame =
  | ((Exclude<ServerFrame, KeepAliveFrame> | CutFrame) & { readonly id: string })
  | KeepAliveFrame
  | SocketErrorFrame
