import { z } from 'zod'
import type { ErrorCode } from '../errors.ts'
import type { KeepAliveFrame, ServerFrame } from './events.ts'
import { Ack, Cancel, CancelBranch, Generate } from './frames.ts'

/**
 * Many requests on one socket, subprotocol `apar.mux.v1`: the same frames as on a socket with one request, each
 * with the `id` of its request. See docs/protocol.md.
 */

/** Chosen by the client, unique on its socket; can be reused after the request's last event. */
const id = z.string().min(1).max(64)

/** Resumes a stream after event `after`, like `?stream=&after=` on a socket with one request. */
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

/** The part of a frame that names its request; parsed when the whole frame is invalid. */
export const Addressed = z.object({ id })

/**
 * Why the edge stopped sending a request's events before its end; corresponds to the close code of a socket with
 * one request.
 */
export type CutReason = 'slow_client' | 'replaced' | 'lost'

/** The request keeps running for its grace time and can be resumed. Its `id` can be reused. */
export interface CutFrame {
  readonly type: 'cut'
  readonly reason: CutReason
}

/** The answer to a frame without a readable `id`. */
export interface SocketErrorFrame {
  readonly type: 'error'
  readonly code: ErrorCode
  readonly message: string
  readonly param: string | null
}

/** What the edge sends to a client. */
export type MultiplexedServerFrame =
  | ((Exclude<ServerFrame, KeepAliveFrame> | CutFrame) & { readonly id: string })
  | KeepAliveFrame
  | SocketErrorFrame
