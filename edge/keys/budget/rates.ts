import { AparError } from '../../../shared/errors.ts'
import type { LimitName, RateStatus } from './key-budget.ts'

/** OpenAI's rate limit headers. */
export function setRateHeaders(headers: Headers, rates: RateStatus): void {
  for (const [name, status] of Object.entries(rates)) {
    headers.set(`x-ratelimit-limit-${name}`, String(status.limit))
    headers.set(`x-ratelimit-remaining-${name}`, String(status.remaining))
    headers.set(`x-ratelimit-reset-${name}`, `${Math.ceil(status.fullAfterMs / 1000)}s`)
  }
}

const MESSAGES: Record<LimitName, string> = {
  requests: 'the requests per minute of this key are used up',
  tokens: 'this request may use more tokens (max_tokens) than this key has left this minute',
  streams: 'this key has as many open streams as its limit allows',
  day: 'this request may use more tokens (max_tokens) than this key has left today',
  month: 'this request may use more tokens (max_tokens) than this key has left this month',
}

/** `retryAfterMs` Infinity: the request alone asks for more than the limit. */
export function limitError(limit: LimitName, retryAfterMs: number): AparError {
  const never = retryAfterMs === Number.POSITIVE_INFINITY
  const more = never ? ': the request alone exceeds the limit; ask for fewer tokens or answers' : ''
  return new AparError(codeOf(limit), MESSAGES[limit] + more, {
    retryAfterSeconds: never ? undefined : Math.max(1, Math.ceil(retryAfterMs / 1000)),
  })
}

function codeOf(limit: LimitName): 'rate_limit_exceeded' | 'too_many_streams' | 'insufficient_quota' {
  if (limit === 'streams') return 'too_many_streams'
  return limit === 'day' || limit === 'month' ? 'insufficient_quota' : 'rate_limit_exceeded'
}
