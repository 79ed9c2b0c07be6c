import { AparError } from '../../shared/errors.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import type { Env } from '../env.ts'
import { fleetOf } from './fleet.ts'
import { connectToNode, type NodeAddress, type NodeSocket } from './node-socket.ts'

/** The gpu nodes, as the stream of one request uses them. */
export interface Nodes {
  /** Chooses a node for the request, none of `exclude`. @throws AparError that is sent to the client. */
  pick(request: GenerateRequest, exclude: readonly string[]): Promise<NodeAddress>
  /** @throws Error when the node cannot be reached; nothing was started then. */
  connect(node: NodeAddress): Promise<NodeSocket>
  isAlive(id: string): Promise<boolean>
  /** Reports to the fleet that the node failed to serve a request. */
  reportFailure(id: string): void
}

/** The gpu nodes of the Fleet. `waitUntil`: for work that lasts longer than the call. */
export function nodesOf(env: Env, waitUntil: (work: Promise<void>) => void): Nodes {
  return {
    pick: async ({ model, messages }, exclude) => {
      const decision = await fleetOf(env).pick({ model, exclude, affinity: conversationStart(messages) })
      if ('refused' in decision) throw refusedError(decision.refused, model)
      return decision.node
    },
    connect: (node) => connectToNode(env, node),
    isAlive: (id) => fleetOf(env).isAlive(id),
    reportFailure: (id) => waitUntil(fleetOf(env).reportFailure(id)),
  }
}

/** The messages up to the first user message, the same in all turns of a conversation. At most 4096 characters. */
function conversationStart(messages: GenerateRequest['messages']): string {
  const first = messages.findIndex(({ role }) => role === 'user')
  return JSON.stringify(messages.slice(0, first + 1)).slice(0, 4096)
}

function refusedError(code: 'model_not_found' | 'no_gpu_node', model: string): AparError {
  return code === 'model_not_found'
    ? new AparError(code, `there is no model ${JSON.stringify(model)}; see /v1/models`, { param: 'model' })
    : new AparError(code, `no gpu node that serves ${JSON.stringify(model)} can be reached now`)
}
