import { AparError } from '../../../shared/errors.ts'
import type { LimitName, RateStatus } from './key-budget.ts'

/** The headers that OpenAI's clients know. */
export function setRateHeaders(headers: Headers, rates: RateStatus): void {
  for (const [name, status] of Object.entries(rates)) {
    headers.set(`x-ratelimit-limit-${name}`, String(status.limit))
    headers.set(`x-ratelimit-remaining-${name}`, String(status.remaining))
    headers.set(`x-ratelimit-reset-${name}`, `${Math.ceil(status.fullAfterMs / 1000)}s`)
  }
}

const MESSAGES: Record<LimitName, string> = {
  requests: 'the requests per minute of this key are used up',
  tokens: 'fewer tokens per minute are left to this key than this request may use (max_tokens)',
  streams: 'this key has as many streams open as it may have',
  day: 'fewer tokens are left to this key today than this request may use (max_tokens)',
  month: 'fewer tokens are left to this key this month than this request may use (max_tokens)',
}

/** `retryAfterMs` Infinity: the request asks for more than the limit ever allows. */
export function limitError(limit: LimitName, retryAfterMs: number): AparError {
  const never = retryAfterMs === Number.POSITIVE_INFINITY
  const more = never ? ': this request alone asks for more; ask for fewer tokens or answers' : ''
  return new AparError(codeOf(limit), MESSAGES[limit] + more, {
    retryAfterSeconds: never ? undefined : Math.max(1, Math.ceil(retryAfterMs / 1000)),
  })
}

function codeOf(limit: LimitName): 'rate_limit_exceeded' | 'too_many_streams' | 'insufficient_quota' {
  if (limit === 'streams') return 'too_many_streams'
  return limit === 'day' || limit === 'month' ? 'insufficient_quota' : 'rate_limit_exceeded'
}
