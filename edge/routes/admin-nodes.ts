import type { Context } from 'hono'
import type { AppEnv } from '../app-env.ts'
import { fleetOf, type NodeStatus } from '../nodes/fleet.ts'

/** The gpu nodes that have a lease or are suspended, for the operator. */
export async function listNodes(c: Context<AppEnv>): Promise<Response> {
  const fleet = fleetOf(c.env)
  const [nodes, models] = await Promise.all([fleet.nodes(), fleet.models()])
  const differing = models.filter(({ differs }) => differs.length > 0)
  return c.json({
    object: 'list',
    data: nodes.map(toNode),
    differing_models: differing.map(({ id, fingerprints, differs }) => ({ id, fingerprints, differs })),
  })
}

function toNode({ id, member, suspension, leaseMs }: NodeStatus) {
  const { url = null, models = [], draining = false, capacity = null, load = null } = member?.heartbeat ?? {}
  return {
    ...{ id, object: 'node', url, draining, models, capacity, load },
    lease_seconds: Math.ceil(leaseMs / 1000),
    suspended: suspension
      ? {
          until: Math.ceil(suspension.until / 1000),
          times: suspension.times,
          code: suspension.code,
          reason: suspension.reason,
        }
      : null,
  }
}
