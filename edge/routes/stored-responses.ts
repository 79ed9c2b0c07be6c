import type { Context } from 'hono'
import { z } from 'zod'
import { AparError } from '../../shared/errors.ts'
import { parse } from '../../shared/parse.ts'
import type { AppEnv } from '../app-env.ts'
import type { StoredItem } from '../history/stored-items.ts'
import type { ResponseBody } from '../openai/responses.ts'
import { readLines } from '../responses/event-lines.ts'
import { responsesOf } from '../responses/response-store.ts'
import { fromStored } from '../responses/stored-form.ts'
import { namedEvents, sseResponse } from '../streams/http/sse.ts'

/** Longest id of a response or an item that a call may name. */
const MAX_ID_CHARS = 192

const ItemPage = z.object({
  limit: z.coerce.number().int().min(1).max(100).default(20),
  order: z.enum(['asc', 'desc']).default('desc'),
  after: z.string().max(MAX_ID_CHARS).optional(),
})

const StreamQuery = z.object({
  stream: z.stringbool({ truthy: ['true'], falsy: ['false'] }).default(false),
  /** Means something with `stream` only. */
  starting_after: z.coerce.number().int().min(-1).max(Number.MAX_SAFE_INTEGER).default(-1),
})

/** Parameters of a query with a value. */
function givenOf(query: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(query).filter(([, value]) => value !== ''))
}

/** `GET /v1/responses/{id}`: as it is now; with `?stream=true` its events, also those to come. */
export async function getResponse(c: Context<AppEnv>): Promise<Response> {
  const { stream, starting_after: after } = parse(StreamQuery, givenOf(c.req.query()))
  const response = fromStored(await stored(c))
  return stream ? await streamStored(c, response, after) : c.json(response)
}

/** The events of a response that runs or has run in the background, behind number `after`. */
export async function streamStored(
  c: Context<AppEnv>,
  response: ResponseBody,
  after: number,
): Promise<Response> {
  const readable = await storeOf(c).events(response.id, after)
  if (!readable) {
    const message = 'stream: only a response that was created with background=true can be streamed again'
    throw new AparError('invalid_request', message, { param: 'stream' })
  }
  const [lines, cancel] = readLines(readable)
  // The response itself may go on.
  const format = namedEvents(({ code, message }) => ({ type: 'error', code, message, param: null }))
  return sseResponse(c, lines, cancel, format)
}

/** `POST /v1/responses/{id}/cancel`: of one that runs in the background. One that has ended stays as it is. */
export async function cancelResponse(c: Context<AppEnv>): Promise<Response> {
  const { id, background } = fromStored(await stored(c))
  if (background !== true)
    throw new AparError('invalid_request', 'Cannot cancel a synchronous response.', { param: 'id' })
  const cancelled = await storeOf(c).cancel(id)
  if (!cancelled) throw notFound(id)
  return c.json(fromStored(cancelled))
}

/** `DELETE /v1/responses/{id}`. */
export async function deleteResponse(c: Context<AppEnv>): Promise<Response> {
  const id = idOf(c)
  if (!(await storeOf(c).remove(id))) throw notFound(id)
  return c.json({ id, object: 'response', deleted: true })
}

/** `GET /v1/responses/{id}/input_items`: those of its own request; those before are of the response that it continues. */
export async function listInputItems(c: Context<AppEnv>): Promise<Response> {
  const { limit, order, after } = parse(ItemPage, givenOf(c.req.query()))
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
