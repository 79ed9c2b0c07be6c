import { AparError, ERROR_CODES, type ErrorCode } from '../shared/errors.ts'
import { endpoint } from './endpoint.ts'

/**
 * Why a WebSocket handshake failed. WebSocket APIs do not expose the HTTP status of a failed handshake, so this
 * sends an HTTP request with the same key.
 * @param resumed the stream that the handshake named: an edge that is there and takes the key does not know it.
 */
export async function explainRefusal(
  baseUrl: string,
  apiKey: string,
  resumed: string | undefined,
): Promise<AparError> {
  const unknown = new AparError('gpu_node_lost', `no stream could be opened at ${baseUrl}`)
  try {
    const response = await fetch(endpoint(baseUrl, '/v1/models'), {
      headers: { authorization: `Bearer ${apiKey}` },
      signal: AbortSignal.timeout(5_000),
    })
    if (response.ok)
      return resumed === undefined
        ? unknown
        : new AparError('stream_not_found', `there is no stream ${resumed} at ${baseUrl}`)
    const seconds = Number(response.headers.get('retry-after') ?? Number.NaN)
    return readErrorBody(await response.json(), Number.isFinite(seconds) ? seconds : undefined) ?? unknown
  } catch {
    return unknown
  }
}

/** The error in an `{error: {…}}` body; undefined when its code is not one of apar's. */
export function readErrorBody(body: unknown, retryAfterSeconds?: number): AparError | undefined {
  if (typeof body !== 'object' || body === null || !('error' in body)) return undefined
  const { error } = body
  if (typeof error !== 'object' || error === null) return undefined
  const code = 'code' in error && typeof error.code === 'string' ? error.code : ''
  const message = 'message' in error && typeof error.message === 'string' ? error.message : code
  const param = 'param' in error && typeof error.param === 'string' ? error.param : undefined
  return isErrorCode(code) ? new AparError(code, message, { param, retryAfterSeconds }) : undefined
}

function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(ERROR_CODES, code)
}
