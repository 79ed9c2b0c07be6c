import { AparError } from '../../shared/errors.ts'
import { type GenerateRequest, PromptAndEnd } from '../../shared/protocol/request.ts'
import type { Env } from '../env.ts'
import { fleetOf } from './fleet.ts'
import type { Refusal } from './node-registry.ts'
import { connectToNode, type NodeAddress, type NodeSocket } from './node-socket.ts'

/** What a node needs to continue a stream that another one has begun. */
export interface BegunStream {
  /** Of the node that began it: only nodes with the same weights and numeric type can continue it. */
  readonly fingerprint: string | undefined
  /** Of `capacity.start_fields`: what its request uses of them. */
  readonly startFields: readonly string[]
}

/** The gpu nodes, as the stream of one request uses them. */
export interface Nodes {
  /** Chooses a node for the request, none of `exclude`. @throws AparError that is sent to the client. */
  pick(request: GenerateRequest, exclude: readonly string[], begun?: BegunStream): Promise<NodeAddress>
  /** @throws Error when the node cannot be reached; nothing was started then. */
  connect(node: NodeAddress): Promise<NodeSocket>
  /** Time until the node's lease ends, in ms; 0 or less when it has ended. */
  leaseMs(id: string): Promise<number>
  /** Reports to the fleet that the node failed to serve a request. */
  reportFailure(id: string): void
  /** Reports that the node sent what no honest node sends: it loses its lease for a while. */
  reportNonsense(id: string, why: AparError): void
}

/**
 * The gpu nodes of the Fleet. `waitUntil`: for work that lasts longer than the call. `affinity`: requests with the same
 * one go to the same node while it has room, whatever the routing policy.
 */
export function nodesOf(env: Env, waitUntil: (work: Promise<void>) => void, affinity?: string): Nodes {
  return {
    pick: async (request, exclude, begun) => {
      const { model, messages } = request
      const route = { affinity: affinity ?? conversationStart(messages), stays: affinity !== undefined }
      const startFields = [...(begun?.startFields ?? []), ...neededFields(request)]
      const decision = await fleetOf(env).pick({ model, exclude, ...route, ...begun, startFields })
      if ('refused' in decision) throw refusedError(decision.refused, model)
      return decision.node
    },
    connect: (node) => connectToNode(env, node),
    leaseMs: (id) => fleetOf(env).leaseMs(id),
    reportFailure: (id) => waitUntil(fleetOf(env).reportFailure(id)),
    reportNonsense: (id, { code, message }) => waitUntil(fleetOf(env).suspend(id, { code, message })),
  }
}

/** What a node must know to serve the request: it would refuse other fields. */
function neededFields(request: GenerateRequest): string[] {
  const hasOptions = Object.keys(PromptAndEnd.shape).some((field) => field in request)
  const hasCalls = request.messages.some(
    ({ role, tool_calls }) => role === 'tool' || tool_calls !== undefined,
  )
  return [
    ...(hasOptions ? ['prompt_options'] : []),
    ...(request.output_format ? ['output_format'] : []),
    ...(request.tools ? ['tools'] : []),
    ...(request.dry_multiplier ? ['dry'] : []),
    ...(request.return_prompt_token_ids ? ['return_prompt_token_ids'] : []),
    ...(hasCalls ? ['tool_messages'] : []),
  ]
}

/** The messages up to the first user message, the same in all turns of a conversation. At most 4096 characters. */
function conversationStart(messages: GenerateRequest['messages']): string {
  const first = messages.findIndex(({ role }) => role === 'user')
  return JSON.stringify(messages.slice(0, first + 1)).slice(0, 4096)
}

/** Why no node takes a request. */
export function refusedError(code: Refusal, model: string): AparError {
  const name = JSON.stringify(model)
  if (code === 'model_not_found')
    return new AparError(code, `there is no model ${name}; see /v1/models`, { param: 'model' })
  if (code === 'model_changed')
    return new AparError(code, `the gpu nodes that are left serve ${name} with other weights or numeric type`)
  return new AparError(code, `no gpu node that serves ${name} can be reached now`)
}
