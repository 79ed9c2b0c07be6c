import { z } from 'zod'
import type { Limits } from '../../shared/api-keys.ts'
import { dayOf } from './budget/key-budget.ts'
import type { KeyLimits } from './key-limits.ts'

type KeyUsage = ReturnType<KeyLimits['usage']>

const day = z.iso.date('must be a day as in 2026-11-23')

/** `?first=2026-11-01&last=2026-11-30`, in UTC. Default: from the first day of this month to today. */
export const DayRange = z
  .object({ first: day.optional(), last: day.optional() })
  .transform(({ first, last }) => {
    const today = dayOf(Date.now())
    return { first: first ?? `${today.slice(0, 8)}01`, last: last ?? today }
  })

/** The answer of `GET /v1/usage`. */
export function usageBody(limits: Limits, { totals, days }: KeyUsage) {
  return {
    object: 'usage',
    limits,
    tokens_today: totals.day,
    tokens_this_month: totals.month,
    reserved_tokens: totals.reserved,
    open_streams: totals.streams,
    days,
  }
}
