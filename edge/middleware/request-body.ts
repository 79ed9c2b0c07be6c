import type { Context } from 'hono'
import { AparError } from '../../shared/errors.ts'

/** Enough for 2 MiB, the largest body, on a slow connection. */
const BODY_MS = 30_000

/** The body as text. @throws AparError `request_timeout`, `connection_closed`. */
export function bodyText(c: Context): Promise<string> {
  return withBodyTimeout(c.req.text())
}

/** Awaits `reading`. @throws AparError `request_timeout`, or `connection_closed` when the client disconnects first. */
export async function withBodyTimeout<T>(reading: Promise<T>, ms = BODY_MS): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | null = null
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new AparError('request_timeout', `the body did not arrive within ${ms / 1000} s`))
    }, ms)
  })
  try {
    return await Promise.race([reading, late])
  } catch (cause) {
    if (cause instanceof AparError) throw cause
    throw new AparError('connection_closed', 'the connection was closed before the end of the body', {
      cause,
    })
  } finally {
    clearTimeout(timer)
  }
}
