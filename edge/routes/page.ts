import type { Context } from 'hono'
import { etag, RETAINED_304_HEADERS } from 'hono/etag'
import style from '../../dist/web/chat.css.txt'
import script from '../../dist/web/chat.js.txt'
import html from '../../dist/web/index.html'

/**
 * Nothing from other origins and nothing inline, so that model text could run no script even if it became markup. Only
 * the sanitizer (edge/web/markdown/safe-html.ts) may turn text into markup.
 */
const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  'trusted-types dompurify',
].join('; ')

/** A browser that has the file is told so; the policy of a page that comes from its cache is that of this answer. */
export const revalidated = etag({
  retainedHeaders: [...RETAINED_304_HEADERS, 'content-security-policy', 'cross-origin-opener-policy'],
})

export function chatPage(c: Context): Response {
  return asset(c, html, 'text/html')
}

export function chatScript(c: Context): Response {
  return asset(c, script, 'text/javascript')
}

export function chatStyle(c: Context): Response {
  return asset(c, style, 'text/css')
}

function asset(c: Context, text: string, type: string): Response {
  return c.body(text, 200, {
    'content-type': `${type}; charset=utf-8`,
    'cache-control': 'no-cache',
    'content-security-policy': CONTENT_SECURITY_POLICY,
    'cross-origin-opener-policy': 'same-origin',
  })
}
