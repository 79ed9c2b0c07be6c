import type { Context } from 'hono'
import { createMiddleware } from 'hono/factory'
import { AparError } from '../../shared/errors.ts'
import type { AppEnv } from '../app-env.ts'
import { clientAddress } from '../client-address.ts'

/** The period of the IP_RATE_LIMIT binding in wrangler.toml. */
const PERIOD_SECONDS = 10

/** What an address pays for. Each has a limit of its own: refusals must not use up what valid callers need. */
type Charge = 'refused' | 'ready'

/**
 * Refuses a call because of its credential. It counts for the caller's address, and once there were too many the answer
 * is 429 and says nothing about the credential. Calls with a valid one are not affected.
 * @throws AparError always: `invalid_api_key`, or `rate_limit_exceeded`.
 */
export async function refuseCredential(
  c: Context<AppEnv>,
  message = 'this API key is not valid',
): Promise<never> {
  await charge(c, 'refused')
  throw new AparError('invalid_api_key', message)
}

/** For paths that anybody may call but that ask a Durable Object. */
export const limitByAddress = createMiddleware<AppEnv>(async (c, next) => {
  await charge(c, 'ready')
  await next()
})

/** The platform's limiter: not exact, but without a Durable Object. @throws AparError `rate_limit_exceeded`. */
async function charge(c: Context<AppEnv>, what: Charge): Promise<void> {
  const key = `${what} ${clientAddress(c) ?? 'unknown'}`
  const { success } = (await c.env.IP_RATE_LIMIT?.limit({ key })) ?? { success: true }
  if (success) return
  const message = 'too many refused requests from this address'
  throw new AparError('rate_limit_exceeded', message, { retryAfterSeconds: PERIOD_SECONDS })
}
