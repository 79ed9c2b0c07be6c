import { AparError } from '../../shared/errors.ts'
import { parseJson } from '../../shared/parse.ts'
import type { Tenant } from '../../shared/protocol/node.ts'
import { type GoodTokenAnswer, TokenAnswer, type TokenQuery } from '../../shared/protocol/token-query.ts'
import type { Env } from '../env.ts'
import { fleetOf } from './fleet.ts'
import { refusedError } from './fleet-nodes.ts'
import { connectToNode, type NodeAddress } from './node-socket.ts'

/** Longer than a prompt may wait and be encoded at a node. */
const ANSWER_MS = 50_000
const MAX_NODES = 3

export interface AskOptions {
  readonly tenant: Tenant
  /** For a node that did not answer. */
  readonly onFailure: (why: unknown) => void
}

/**
 * Asks a gpu node that serves the query's model, or another one where that fails to answer.
 * @throws AparError the node's own, or that no node can answer.
 */
export async function askNode(
  env: Env,
  query: TokenQuery,
  { tenant, onFailure }: AskOptions,
): Promise<GoodTokenAnswer> {
  const { model } = query
  const exclude: string[] = []
  for (;;) {
    const decision = await fleetOf(env).pick({ model, exclude, startFields: ['query'] })
    if ('refused' in decision) throw refusedError(decision.refused, model)
    const { node } = decision
    let answer: TokenAnswer
    try {
      answer = parseJson(TokenAnswer, await firstFrame(env, node, query, tenant))
    } catch (why) {
      onFailure(why)
      await fleetOf(env).reportFailure(node.id)
      exclude.push(node.id)
      if (exclude.length < MAX_NODES) continue
      throw new AparError('gpu_node_lost', 'the gpu nodes did not answer', { cause: why })
    }
    if (answer.type !== 'error') return answer
    throw new AparError(answer.code, answer.message, { param: answer.param ?? undefined })
  }
}

async function firstFrame(env: Env, node: NodeAddress, query: TokenQuery, tenant: Tenant): Promise<string> {
  const socket = await connectToNode(env, node)
  let timer: ReturnType<typeof setTimeout> | null = null
  try {
    return await new Promise<string>((resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`gpu node ${node.id} did not answer a query`)), ANSWER_MS)
      socket.listen(resolve, (code) => reject(new Error(`gpu node ${node.id} closed its socket (${code})`)))
      socket.send({ type: 'query', query, tenant })
    })
  } finally {
    clearTimeout(timer)
    socket.close()
  }
}
