import type { MiddlewareHandler } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { AparError } from '../../shared/errors.ts'
import { withBodyTimeout } from './request-body.ts'

/**
 * Refuses a body that is longer than `maxBytes` or compressed. It is not decompressed, because a few bytes can become
 * gigabytes.
 */
export function readableBody(maxBytes: number): MiddlewareHandler {
  const limit = bodyLimit({
    maxSize: maxBytes,
    onError: () => {
      throw new AparError('body_too_large', `a request body may have at most ${maxBytes} bytes`)
    },
  })
  return async (c, next) => {
    const encoding = c.req.header('content-encoding')?.trim() ?? ''
    if (encoding !== '' && encoding.toLowerCase() !== 'identity') {
      const name = JSON.stringify(encoding.slice(0, 64))
      throw new AparError(
        'unsupported_encoding',
        `a request body may not have the content-encoding ${name}`,
        {
          param: 'content-encoding',
        },
      )
    }
    // A body of unknown length is read here to measure it.
    if (c.req.raw.body) await withBodyTimeout(limit(c, async () => {}))
    await next()
  }
}
