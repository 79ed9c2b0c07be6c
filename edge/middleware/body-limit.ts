import type { MiddlewareHandler } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { AparError } from '../../shared/errors.ts'
import { withBodyTimeout } from './request-body.ts'

export function limitBody(maxBytes: number): MiddlewareHandler {
  const limit = bodyLimit({
    maxSize: maxBytes,
    onError: () => {
      throw new AparError('body_too_large', `a request body may have at most ${maxBytes} bytes`)
    },
  })
  return async (c, next) => {
    // A body of unknown length is read here to measure it.
    if (c.req.raw.body) await withBodyTimeout(limit(c, async () => {}))
    await next()
  }
}
