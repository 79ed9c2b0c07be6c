import type { Context } from 'hono'
import { z } from 'zod'
import { AparError } from '../../shared/errors.ts'
import { Feedback, FeedbackId } from '../../shared/feedback.ts'
import { parse } from '../../shared/parse.ts'
import { parseBody } from '../../shared/requests/body.ts'
import type { AppEnv } from '../app-env.ts'
import { feedbackDays, feedbackOf } from '../feedback/feedback-store.ts'
import { bodyText } from '../middleware/request-body.ts'

const FeedbackPath = z.object({ id: FeedbackId })
const Export = z.object({ after: z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER).default(0) })
const Owner = z.object({ owner: z.string().min(1).max(512) })

/** `POST /v1/feedback`: a vote on an answer. */
export async function giveFeedback(c: Context<AppEnv>): Promise<Response> {
  const days = feedbackDays(c.env)
  if (days === 0) throw new AparError('not_found', 'this edge keeps no feedback')
  const feedback = parseBody(Feedback, await bodyText(c))
  await feedbackOf(c.env).put(c.get('principal').id, feedback)
  return c.json({ object: 'feedback', id: feedback.id, vote: feedback.vote, kept_days: days })
}

/** `DELETE /v1/feedback/{id}`: the caller takes its vote back. */
export async function withdrawFeedback(c: Context<AppEnv>): Promise<Response> {
  const { id } = parse(FeedbackPath, c.req.param())
  await feedbackOf(c.env).withdraw(c.get('principal').id, id)
  return c.body(null, 204)
}

/** `GET /admin/v1/feedback`: everything behind number `after`, a line of JSON each. */
export function exportFeedback(c: Context<AppEnv>): Response {
  let { after } = parse(Export, c.req.query())
  const encoder = new TextEncoder()
  const lines = new ReadableStream<Uint8Array>({
    async pull(controller) {
      const page = await feedbackOf(c.env).page(after)
      const last = page.at(-1)
      if (!last) return controller.close()
      after = last.number
      controller.enqueue(encoder.encode(page.map((record) => `${JSON.stringify(record)}\n`).join('')))
    },
  })
  return c.body(lines, 200, { 'content-type': 'application/jsonl; charset=utf-8' })
}

/** `DELETE /admin/v1/feedback?owner=key:ID`: all that one key or subject has said. */
export async function deleteFeedback(c: Context<AppEnv>): Promise<Response> {
  const { owner } = parse(Owner, c.req.query())
  await feedbackOf(c.env).withdrawAll(owner)
  return c.body(null, 204)
}
