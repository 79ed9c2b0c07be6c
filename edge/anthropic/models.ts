import { z } from 'zod'
import { AparError } from '../../shared/errors.ts'
import type { FleetModel } from '../nodes/node-registry.ts'

/** Of `GET /v1/models` in Anthropic's form. Both ids are exclusive. */
export const ModelPage = z.object({
  limit: z.coerce.number().int().min(1).max(1000).default(20),
  after_id: z.string().max(256).optional(),
  before_id: z.string().max(256).optional(),
})
export type ModelPage = z.infer<typeof ModelPage>

/** A model as Anthropic's clients know it; null is what apar does not tell. */
export function anthropicModel({ id, created, context_tokens }: FleetModel) {
  return {
    ...{ type: 'model', id, display_name: id, created_at: new Date(created * 1000).toISOString() },
    ...{ max_input_tokens: context_tokens, max_tokens: context_tokens, lifecycle: 'active' },
    ...{ capabilities: null, line: null, deprecated_at: null, retires_at: null },
  }
}

/** A page of all models, which are in order of id. @throws AparError for an id that is none. */
export function anthropicModels(models: readonly FleetModel[], page: ModelPage) {
  const { limit, after_id, before_id } = page
  const begin = after_id === undefined ? 0 : placeOf(models, 'after_id', after_id) + 1
  const end = before_id === undefined ? models.length : placeOf(models, 'before_id', before_id)
  const between = models.slice(begin, Math.max(begin, end))
  // Going back, the page is the one right before `before_id`.
  const shown = before_id === undefined ? between.slice(0, limit) : between.slice(-limit)
  return {
    data: shown.map(anthropicModel),
    has_more: shown.length < between.length,
    first_id: shown[0]?.id ?? null,
    last_id: shown.at(-1)?.id ?? null,
  }
}

function placeOf(models: readonly FleetModel[], param: 'after_id' | 'before_id', id: string): number {
  const place = models.findIndex((model) => model.id === id)
  if (place >= 0) return place
  throw new AparError('model_not_found', `${param}: there is no model ${JSON.stringify(id)}`, { param })
}
