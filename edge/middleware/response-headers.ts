import { createMiddleware } from 'hono/factory'
import type { AppEnv } from '../app-env.ts'
import { IGNORED_FIELDS_HEADER, ignoredFieldsHeader } from './api-body.ts'
import { traceContext } from './trace-context.ts'

const ALWAYS = {
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
}
/** For API responses, which are not pages and must not be cached. The chat page sets its own values. */
const UNLESS_SET = {
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'cache-control': 'no-store',
}
/** Where OpenAI's clients look for it, and Anthropic's. */
const REQUEST_ID_HEADERS = ['x-request-id', 'request-id'] as const
const HTTPS_ONLY = ['strict-transport-security', 'max-age=31536000'] as const

/** Gives every request an id and a call context, and every response that id and the common headers. */
export const responseHeaders = createMiddleware<AppEnv>(async (c, next) => {
  const id = crypto.randomUUID()
  c.set('requestId', id)
  c.set('callContext', { request_id: id, ...traceContext(c.req.raw.headers) })
  await next()
  // The answer to a WebSocket handshake is immutable and has no use for them.
  if (c.res.status === 101) return
  for (const name of REQUEST_ID_HEADERS) c.res.headers.set(name, id)
  const ignored = c.get('ignoredFields')
  if (ignored?.length && c.res.ok) c.res.headers.set(IGNORED_FIELDS_HEADER, ignoredFieldsHeader(ignored))
  for (const [name, value] of Object.entries(ALWAYS)) c.res.headers.set(name, value)
  for (const [name, value] of Object.entries(UNLESS_SET)) {
    if (!c.res.headers.has(name)) c.res.headers.set(name, value)
  }
  if (c.req.url.startsWith('https:')) c.res.headers.set(...HTTPS_ONLY)
})
