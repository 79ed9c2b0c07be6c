import { setTimeout as sleep } from 'node:timers/promises'

/** @throws Error when it takes longer. */
export async function inTime<T>(promise: Promise<T>, limitMs: number): Promise<T> {
  const late = new AbortController()
  const hang = sleep(limitMs, undefined, { signal: late.signal }).then(() => {
    throw new Error(`nothing came for ${limitMs} ms`)
  })
  hang.catch(() => {})
  try {
    return await Promise.race([promise, hang])
  } finally {
    late.abort()
  }
}
