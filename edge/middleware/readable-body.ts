import type { Context, MiddlewareHandler } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { bodyEncoding, gunzip, tooLarge } from './body-encoding.ts'
import { withBodyTimeout } from './request-body.ts'

/** Refuses a body that is longer than `maxBytes`, compressed or not, and decompresses one in gzip. */
export function readableBody(maxBytes: number): MiddlewareHandler {
  const limit = bodyLimit({
    maxSize: maxBytes,
    onError: () => {
      throw tooLarge(maxBytes)
    },
  })
  return async (c, next) => {
    const encoding = bodyEncoding(c.req.header('content-encoding'))
    // A body of unknown length is read here to measure it.
    if (c.req.raw.body) await withBodyTimeout(limit(c, async () => {}))
    if (c.req.raw.body && encoding === 'gzip') await decompress(c, maxBytes)
    await next()
  }
}

async function decompress(c: Context, maxBytes: number): Promise<void> {
  const compressed = new Uint8Array(await withBodyTimeout(c.req.raw.arrayBuffer()))
  c.req.raw = new Request(c.req.raw, { body: gunzip(compressed, maxBytes) })
}
