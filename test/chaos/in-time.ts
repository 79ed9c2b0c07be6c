import { setTimeout as sleep } from 'node:timers/promises'

/** Awaits `promise`. @throws Error when it does not settle within `limitMs`. */
export async function inTime<T>(promise: Promise<T>, limitMs: number): Promise<T> {
  const late = new AbortController()
  const timeout = sleep(limitMs, undefined, { signal: late.signal }).then(() => {
    throw new Error(`no result within ${limitMs} ms`)
  })
  timeout.catch(() => {})
  try {
    return await Promise.race([promise, timeout])
  } finally {
    late.abort()
  }
}
