import { listModels } from '../../client/models.ts'
import { AparError } from '../../shared/errors.ts'
import { UserError } from '../explain.ts'

/** The first model that the edge serves. @throws UserError, or the edge's AparError. */
export async function firstModel(baseUrl: string, apiKey: string): Promise<string> {
  try {
    const [model] = await listModels(baseUrl, apiKey)
    if (model) return model
  } catch (error) {
    if (error instanceof AparError) throw error
    throw new UserError('edge_unreachable', `nothing answers at ${baseUrl}: is apar serve running?`)
  }
  throw new UserError('no_gpu_node', `no gpu node is registered at ${baseUrl}`)
}
