import type { MiddlewareHandler } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { AparError } from '../../shared/errors.ts'

export function limitBody(maxBytes: number): MiddlewareHandler {
  return bodyLimit({
    maxSize: maxBytes,
    onError: () => {
      throw new AparError('body_too_large', `a request body may have at most ${maxBytes} bytes`)
    },
  })
}
