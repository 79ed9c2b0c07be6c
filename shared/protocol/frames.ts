import { z } from 'zod'
import { branch, seq } from './events.ts'
import { GenerateRequest } from './request.ts'

/** Longest frame a client may send, in UTF-16 code units. */
export const MAX_FRAME_CHARS = 2 * 1024 * 1024

const cancel = z.strictObject({ type: z.literal('cancel') })
/** Ends one branch and every branch below it; the others go on. Cancelling branch 0 cancels the stream. */
const cancelBranch = z.strictObject({ type: z.literal('cancel_branch'), branch })
/** Everything up to `seq` has arrived. */
const ack = z.strictObject({ type: z.literal('ack'), seq })

/** What a client sends on `GET /v1/stream`. The first frame is `generate`; a socket carries one stream. */
export const ClientFrame = z.discriminatedUnion('type', [
  GenerateRequest.extend({ type: z.literal('generate') }),
  cancel,
  cancelBranch,
  ack,
])
export type ClientFrame = z.infer<typeof ClientFrame>
