import { z } from 'zod'
import { readErrorBody } from '../../client/explain.ts'
import { parse } from '../../shared/parse.ts'
import { UserError } from '../explain.ts'

const Models = z.object({ data: z.array(z.object({ id: z.string() })) })

/** The first model that the edge serves. @throws UserError, or the edge's own AparError. */
export async function firstModel(baseUrl: string, apiKey: string): Promise<string> {
  let response: Response
  try {
    response = await fetch(new URL('/v1/models', baseUrl), { headers: { authorization: `Bearer ${apiKey}` } })
  } catch {
    throw new UserError('edge_unreachable', `nothing answers at ${baseUrl}: is apar serve running?`)
  }
  const body: unknown = await response.json().catch(() => undefined)
  if (!response.ok)
    throw readErrorBody(body) ?? new UserError('edge_failed', `${baseUrl} answered ${response.status}`)
  const model = parse(Models, body).data[0]
  if (!model) throw new UserError('no_gpu_node', `no gpu node is registered at ${baseUrl}`)
  return model.id
}
