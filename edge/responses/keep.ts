import type { Context } from 'hono'
import type { ResponseItem } from '../../shared/requests/response-items.ts'
import type { ResponsesRequest } from '../../shared/responses.ts'
import type { AppEnv } from '../app-env.ts'
import { storedItems } from '../history/stored-items.ts'
import { logTrouble } from '../log.ts'
import type { Keep, ResponseBody } from '../openai/responses.ts'
import { responsesOf, storeLimits } from './response-store.ts'
import type { StoredResponse } from './response-tables.ts'

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
    const { id, output } = response
    const items = output.flatMap((item) => ('id' in item ? [String(item.id)] : []))
    try {
      return await responsesOf(c.env, principal.id).put(toStored(response, input), items, limits)
    } catch (why) {
      logTrouble(c.env, { response: id, request_id: c.get('requestId') }, why)
      return false
    }
  }
}

function toStored({ output, ...response }: ResponseBody, input: readonly ResponseItem[]): StoredResponse {
  const previous = response.previous_response_id
  return {
    id: response.id,
    previous: typeof previous === 'string' ? previous : undefined,
    input: JSON.stringify(storedItems(input)),
    output: JSON.stringify(output),
    response: JSON.stringify(response),
  }
}

/** As it was returned. */
export function fromStored({ response, output }: Pick<StoredResponse, 'response' | 'output'>): ResponseBody {
  return { ...JSON.parse(response), output: JSON.parse(output) }
}
