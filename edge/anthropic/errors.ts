import type { AparError } from '../../shared/errors.ts'

const TYPES: Partial<Record<number, string>> = {
  401: 'authentication_error',
  403: 'permission_error',
  404: 'not_found_error',
  413: 'request_too_large',
  429: 'rate_limit_error',
  503: 'overloaded_error',
}

export const MESSAGES_PATH = '/v1/messages'

/** Whether errors of this call have Anthropic's shape: on its paths, those that are not served too, and for its clients. */
export function isAnthropicCall({ path, version }: { path: string; version: string | undefined }): boolean {
  return path === MESSAGES_PATH || path.startsWith(`${MESSAGES_PATH}/`) || version !== undefined
}

/** An error in Anthropic's shape, with apar's `code` and `param` added. */
export function messagesError({ status, message, code, param }: AparError, requestId: string) {
  const type = TYPES[status] ?? (status < 500 ? 'invalid_request_error' : 'api_error')
  return { type: 'error', error: { type, message, code, param: param ?? null }, request_id: requestId }
}
