import type { AparError } from '../../shared/errors.ts'

const TYPES: Partial<Record<number, string>> = {
  400: 'invalid_request_error',
  401: 'authentication_error',
  403: 'permission_error',
  404: 'not_found_error',
  413: 'request_too_large',
  429: 'rate_limit_error',
  503: 'overloaded_error',
}

/** Errors on this path have Anthropic's shape. */
export const MESSAGES_PATH = '/v1/messages'

/** An error in Anthropic's shape, with apar's `code` and `param` added. */
export function messagesError({ status, message, code, param }: AparError) {
  const type = TYPES[status] ?? 'api_error'
  return { type: 'error', error: { type, message, code, param: param ?? null } }
}
