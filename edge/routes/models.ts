import type { Context } from 'hono'
import { AparError } from '../../shared/errors.ts'
import { parse } from '../../shared/parse.ts'
import { isAnthropicCall } from '../anthropic/errors.ts'
import { anthropicModel, anthropicModels, ModelPage } from '../anthropic/models.ts'
import type { AppEnv } from '../app-env.ts'
import { mayUse } from '../keys/principal.ts'
import { fleetOf } from '../nodes/fleet.ts'
import type { FleetModel } from '../nodes/node-registry.ts'

/**
 * The models that live gpu nodes serve and the key may use: in OpenAI's shape plus our fields, or in Anthropic's for a
 * client that sends `anthropic-version`.
 */
export async function listModels(c: Context<AppEnv>): Promise<Response> {
  const page = parse(ModelPage, c.req.query())
  if (!isForAnthropic(c)) return c.json({ object: 'list', data: (await usableModels(c)).map(toModel) })
  return c.json(anthropicModels(await usableModels(c), page))
}

/** `GET /v1/models/{id}`; slashes in the id may be escaped or not. */
export async function getModel(c: Context<AppEnv>): Promise<Response> {
  const id = c.req.param('id') ?? ''
  const model = (await usableModels(c)).find((served) => served.id === id)
  if (!model) {
    throw new AparError('model_not_found', `there is no model ${JSON.stringify(id)}; see /v1/models`, {
      param: 'model',
    })
  }
  return c.json(isForAnthropic(c) ? anthropicModel(model) : toModel(model))
}

function isForAnthropic({ req }: Context<AppEnv>): boolean {
  return isAnthropicCall({ path: req.path, version: req.header('anthropic-version') })
}

export async function usableModels(c: Context<AppEnv>): Promise<FleetModel[]> {
  const models = await fleetOf(c.env).models()
  return models.filter(({ id }) => mayUse(c.get('principal'), id))
}

/**
 * `max_model_len` is what vLLM's clients read. `differs`: only when the gpu nodes do not serve the same, which an operator
 * must mend.
 */
function toModel({ id, created, context_tokens, fingerprints, differs }: FleetModel) {
  return {
    ...{ id, object: 'model', created, owned_by: 'apar', max_model_len: context_tokens, context_tokens },
    ...(fingerprints.length > 0 && { fingerprints }),
    ...(differs.length > 0 && { differs }),
  }
}
