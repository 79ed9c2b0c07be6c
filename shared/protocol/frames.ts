import { z } from 'zod'
import { branch, seq } from './events.ts'
import { GenerateRequest } from './request.ts'
import { MAX_FRAME_CHARS } from './version.ts'

export { MAX_FRAME_CHARS }

export const Generate = GenerateRequest.extend({ type: z.literal('generate') })
export const Cancel = z.strictObject({ type: z.literal('cancel') })
/** Ends one branch and all its descendants; other branches continue. Cancelling branch 0 cancels the stream. */
export const CancelBranch = z.strictObject({ type: z.literal('cancel_branch'), branch })
/** All events up to `seq` have arrived. */
export const Ack = z.strictObject({ type: z.literal('ack'), seq })

/**
 * Frames of a client on `GET /v1/stream`. The first one is `generate`. A socket carries one stream;
 * `multiplex.ts`: many.
 */
export const ClientFrame = z.discriminatedUnion('type', [Generate, Cancel, CancelBranch, Ack])
export type ClientFrame = z.infer<typeof ClientFrame>
