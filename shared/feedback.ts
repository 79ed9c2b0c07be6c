import { z } from 'zod'
import { MAX_FEEDBACK_CHARS, MAX_REASON_CHARS } from './feedback-limits.ts'
import { ChatMessage } from './protocol/request.ts'
import type * as types from './protocol/types/feedback.ts'

export const FeedbackId = z
  .string()
  .regex(/^[A-Za-z0-9-]{1,64}$/, 'must be letters, digits and hyphens, at most 64')

/** `POST /v1/feedback`. */
export const Feedback = z.strictObject({
  id: FeedbackId,
  vote: z.enum(['up', 'down', 'flag']),
  reason: z.string().min(1).max(MAX_REASON_CHARS).optional(),
  model: z.string().min(1).max(256),
  parallel: z.boolean().optional(),
  messages: z
    .array(ChatMessage.extend({ content: z.string().max(MAX_FEEDBACK_CHARS) }))
    .min(1)
    .max(256)
    .refine(
      (messages) => messages.reduce((sum, { content }) => sum + content.length, 0) <= MAX_FEEDBACK_CHARS,
      `must have at most ${MAX_FEEDBACK_CHARS} characters together`,
    )
    .optional(),
})
export type Feedback = types.Feedback

/** A line of the export. */
export interface FeedbackRecord extends Feedback {
  /** Counts up; an export goes on behind the last one. */
  readonly number: number
  /** Whose feedback it is: `key:<id>` or `jwt:<subject>`. */
  readonly owner: string
  /** Unix time in seconds. */
  readonly created_at: number
}
