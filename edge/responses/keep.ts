import type { Context } from 'hono'
import type { ResponseItem } from '../../shared/requests/response-items.ts'
import type { ResponsesRequest } from '../../shared/responses.ts'
import type { AppEnv } from '../app-env.ts'
import { logTrouble } from '../log.ts'
import type { Keep } from '../openai/responses.ts'
import { responsesOf, storeLimits } from './response-store.ts'
import { itemIds, toStored } from './stored-form.ts'

/**
 * Stores the response to an authorized request, with its own input; undefined where the caller or the operator wants
 * that none is stored.
 */
export function keepOf(
  c: Context<AppEnv>,
  { store = true }: Pick<ResponsesRequest, 'store'>,
  input: readonly ResponseItem[],
): Keep | undefined {
  const principal = c.get('principal')
  const limits = storeLimits(c.env, principal)
  if (!store || limits.responses === 0) return undefined
  return async (response) => {
    try {
      const store = responsesOf(c.env, principal.id)
      return await store.put(toStored(response, input), itemIds(response), limits)
    } catch (why) {
      logTrouble(c.env, { response: response.id, request_id: c.get('requestId') }, why)
      return false
    }
  }
}
