import type { Context } from 'hono'
import { AparError } from '../../shared/errors.ts'
import type { Named } from '../../shared/requests/model-name.ts'
import type { AppEnv } from '../app-env.ts'
import { authorizeOnce } from '../keys/authorize.ts'
import { requireModel } from '../keys/principal.ts'
import type { FleetModel } from '../nodes/node-registry.ts'
import { usableModels } from './models.ts'

/**
 * A call with the only model that its key may use where it names none, as vLLM and llama.cpp have it. Only that costs
 * a question to the fleet, and authorizes the call.
 * @throws AparError
 */
export async function withModel<T extends { model?: string | undefined }>(
  c: Context<AppEnv>,
  body: T,
): Promise<Named<T>> {
  const { model } = body
  if (model !== undefined) return { ...body, model }
  await authorizeOnce(c, 'generate')
  return { ...body, model: (await modelOf(c, undefined)).id }
}

/** The model with this id, or the only one. @throws AparError */
export async function modelOf(c: Context<AppEnv>, id: string | null | undefined): Promise<FleetModel> {
  if (id) requireModel(c.get('principal'), id)
  const models = await usableModels(c)
  if (id) {
    const model = models.find((served) => served.id === id)
    if (model) return model
    const message = `there is no model ${JSON.stringify(id)}; see /v1/models`
    throw new AparError('model_not_found', message, { param: 'model' })
  }
  const [model, another] = models
  if (!model) throw new AparError('no_gpu_node', 'no gpu node can be reached now')
  if (!another) return model
  throw new AparError('invalid_request', 'model: is required, because several are served', { param: 'model' })
}
