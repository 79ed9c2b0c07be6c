import { AparError } from '../../shared/errors.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import type { Env } from '../env.ts'
import { fleetOf } from './fleet.ts'
import { connectToNode } from './node-socket.ts'
import type { Nodes } from './upstream.ts'

/** The gpu nodes as the Fleet knows them. `finish` sees to work that outlasts whoever asked for it. */
export function nodesOf(env: Env, finish: (work: Promise<void>) => void): Nodes {
  return {
    pick: async ({ model, messages }, exclude) => {
      const choice = await fleetOf(env).pick({ model, exclude, affinity: beginning(messages) })
      if ('refused' in choice) throw refusal(choice.refused, model)
      return choice.node
    },
    connect: (node) => connectToNode(env, node),
    isAlive: (id) => fleetOf(env).isAlive(id),
    reportFailure: (id) => finish(fleetOf(env).reportFailure(id)),
  }
}

/** What all turns of a conversation begin with, cut short. */
function beginning(messages: GenerateRequest['messages']): string {
  const first = messages.findIndex(({ role }) => role === 'user')
  return JSON.stringify(messages.slice(0, first + 1)).slice(0, 4096)
}

function refusal(code: 'model_not_found' | 'no_gpu_node', model: string): AparError {
  return code === 'model_not_found'
    ? new AparError(code, `there is no model ${JSON.stringify(model)}; see /v1/models`, { param: 'model' })
    : new AparError(code, `no gpu node that serves ${JSON.stringify(model)} can be reached now`)
}
