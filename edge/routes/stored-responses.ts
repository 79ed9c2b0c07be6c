import type { Context } from 'hono'
import { z } from 'zod'
import { AparError } from '../../shared/errors.ts'
import { parse } from '../../shared/parse.ts'
import type { AppEnv } from '../app-env.ts'
import type { StoredItem } from '../history/stored-items.ts'
import { fromStored } from '../responses/keep.ts'
import { responsesOf } from '../responses/response-store.ts'

/** Longest id of a response or an item that a call may name. */
const MAX_ID_CHARS = 192

const ItemPage = z.object({
  limit: z.coerce.number().int().min(1).max(100).default(20),
  order: z.enum(['asc', 'desc']).default('desc'),
  after: z.string().max(MAX_ID_CHARS).optional(),
})

/** `GET /v1/responses/{id}`. */
export async function getResponse(c: Context<AppEnv>): Promise<Response> {
  return c.json(fromStored(await stored(c)))
}

/** `DELETE /v1/responses/{id}`. */
export async function deleteResponse(c: Context<AppEnv>): Promise<Response> {
  const id = idOf(c)
  if (!(await storeOf(c).remove(id))) throw notFound(id)
  return c.json({ id, object: 'response', deleted: true })
}

/** `GET /v1/responses/{id}/input_items`: those of its own request; those before are of the response that it continues. */
export async function listInputItems(c: Context<AppEnv>): Promise<Response> {
  const { limit, order, after } = parse(ItemPage, c.req.query())
  const items: StoredItem[] = JSON.parse((await stored(c)).input)
  if (order === 'desc') items.reverse()
  const behind = after === undefined ? 0 : items.findIndex(({ id }) => id === after) + 1
  if (after !== undefined && behind === 0)
    throw new AparError('not_found', 'there is no such item in the input of this response', {
      param: 'after',
    })
  const data = items.slice(behind, behind + limit)
  const ends = { first_id: data[0]?.id ?? null, last_id: data.at(-1)?.id ?? null }
  return c.json({ object: 'list', data, ...ends, has_more: behind + limit < items.length })
}

async function stored(c: Context<AppEnv>) {
  const id = idOf(c)
  const found = await storeOf(c).get(id)
  if (!found) throw notFound(id)
  return found
}

function storeOf(c: Context<AppEnv>) {
  return responsesOf(c.env, c.get('principal').id)
}

function idOf(c: Context<AppEnv>): string {
  return (c.req.param('id') ?? '').slice(0, MAX_ID_CHARS)
}

/** Also for a response of another key. */
function notFound(id: string): AparError {
  return new AparError('response_not_found', `Response with id '${id}' not found.`)
}
