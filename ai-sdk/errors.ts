import { APICallError } from '@ai-sdk/provider'
import { AparError, type ErrorBody } from '../client/index.ts'

/**
 * What the server said of a failure, with its `code`: of a call that it refused, of the last of several tries, or of a
 * stream that broke off. undefined for other errors.
 */
export function aparErrorOf(error: unknown): AparError | undefined {
  if (error instanceof AparError) return error
  if (APICallError.isInstance(error)) {
    const body = error.data as Partial<ErrorBody> | undefined
    return toAparError(body?.error, Number(error.responseHeaders?.['retry-after']) || undefined, error)
  }
  // The AI SDK's RetryError.
  const { lastError } = (error ?? {}) as { lastError?: unknown }
  return lastError === undefined ? undefined : aparErrorOf(lastError)
}

/** The last chunk of a stream that broke off, as an error; other errors stay as they are. */
export function streamError(error: unknown): unknown {
  return error instanceof Error ? error : (toAparError(error as Partial<ErrorBody['error']>) ?? error)
}

function toAparError(
  error: Partial<ErrorBody['error']> | null | undefined,
  retryAfterSeconds?: number,
  cause?: unknown,
): AparError | undefined {
  if (typeof error?.code !== 'string' || typeof error.message !== 'string') return undefined
  return new AparError(error.code, error.message, {
    param: error.param ?? undefined,
    retryAfterSeconds,
    cause,
  })
}
