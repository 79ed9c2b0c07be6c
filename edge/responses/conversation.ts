import type { Context } from 'hono'
import { AparError } from '../../shared/errors.ts'
import type { ResponseItem } from '../../shared/requests/response-items.ts'
import type { AppEnv } from '../app-env.ts'
import { namedIds, resolveItems } from '../history/responses.ts'
import { authorizeOnce } from '../keys/authorize.ts'
import { MAX_CONVERSATION_BYTES, responsesOf } from './response-store.ts'

/** The items of a request. */
export interface Items {
  /** Of the responses before this one. */
  readonly before: readonly ResponseItem[]
  /** Of the request's own input; those that it names are in their places, if they are stored. */
  readonly own: readonly ResponseItem[]
}

/**
 * Reads what a request continues and names. The call is authorized then: only its key says whose responses they are.
 * @throws AparError `previous_response_not_found`, also for a response of another key; `context_length_exceeded`.
 */
export async function itemsOf(
  c: Context<AppEnv>,
  input: readonly ResponseItem[],
  previous: string | undefined,
): Promise<Items> {
  const ids = namedIds(input)
  if (previous === undefined && ids.length === 0) return { before: [], own: input }
  await authorizeOnce(c, 'generate')
  const store = responsesOf(c.env, c.get('principal').id)
  const found = await store.conversation(previous, ids)
  if ('missing' in found) throw notFound(previous, found.missing)
  if ('running' in found) throw running(found.running)
  if ('tooLong' in found) throw tooLong(previous)
  const named = Object.entries(found.named).map(([id, item]) => [id, JSON.parse(item)] as const)
  return {
    before: found.before.flatMap((items) => JSON.parse(items)),
    own: resolveItems(input, new Map(named)),
  }
}

function notFound(previous: string | undefined, missing: string): AparError {
  const message =
    missing === previous
      ? `Previous response with id '${missing}' not found.`
      : `Previous response with id '${previous}' continues '${missing}', which is not found: it was deleted or has expired.`
  return new AparError('previous_response_not_found', message, { param: 'previous_response_id' })
}

function running(id: string): AparError {
  const message = `Previous response with id '${id}' is still in progress.`
  return new AparError('invalid_request', message, { param: 'previous_response_id' })
}

function tooLong(previous: string | undefined): AparError {
  const message = `the stored part of this conversation has more than ${MAX_CONVERSATION_BYTES} bytes`
  const param = previous === undefined ? 'input' : 'previous_response_id'
  return new AparError('context_length_exceeded', message, { param })
}
