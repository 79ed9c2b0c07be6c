import { AparError } from '../shared/errors.ts'
import type { Feedback } from '../shared/protocol/types/feedback.ts'
import { endpoint } from './endpoint.ts'
import { readErrorBody } from './explain.ts'

/**
 * Tells the operator what a user thinks of an answer; a second vote with the same `id` replaces the first. The edge keeps it
 * for a time that the operator has set, with the name of the key.
 * @throws AparError with the edge's error, `not_found` where no feedback is kept; TypeError when the connection fails.
 */
export async function sendFeedback(baseUrl: string, apiKey: string, feedback: Feedback): Promise<void> {
  const body = JSON.stringify(feedback)
  await call('POST', endpoint(baseUrl, '/v1/feedback'), apiKey, body)
}

/** Takes a vote back; the edge deletes it. Errors as for {@link sendFeedback}. */
export async function withdrawFeedback(baseUrl: string, apiKey: string, id: string): Promise<void> {
  await call('DELETE', endpoint(baseUrl, `/v1/feedback/${encodeURIComponent(id)}`), apiKey)
}

async function call(method: string, url: URL, apiKey: string, body: string | null = null): Promise<void> {
  const response = await fetch(url, {
    method,
    headers: { authorization: `Bearer ${apiKey}`, 'content-type': 'application/json' },
    body,
    signal: AbortSignal.timeout(10_000),
  })
  if (response.ok) return
  const answer: unknown = await response.json().catch(() => undefined)
  const other = new AparError(
    'gpu_node_lost',
    `${url.origin} answered ${response.status}, not in apar's format`,
  )
  throw readErrorBody(answer) ?? other
}
