import type { Context } from 'hono'
import { type AppEnv, fleetOf } from '../env.ts'

/** What live gpu nodes serve, in OpenAI's shape plus `context_tokens`. */
export async function listModels(c: Context<AppEnv>): Promise<Response> {
  const models = await fleetOf(c.env).models()
  const data = models.map(({ id, created, context_tokens }) => {
    return { id, object: 'model', created, owned_by: 'apar', context_tokens }
  })
  return c.json({ object: 'list', data })
}
