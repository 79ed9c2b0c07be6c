import type { Context } from 'hono'
import { AparError } from '../../shared/errors.ts'
import type { AppEnv } from '../app-env.ts'
import { fleetOf } from '../nodes/fleet.ts'

/** Liveness: the worker runs. Does not look at gpu nodes, so that a probe needs no Durable Object. */
export function health(c: Context): Response {
  return c.json({ status: 'ok' })
}

/**
 * `GET /health`, which clients and load balancers of vLLM and llama.cpp ask before they send requests: as readiness, in
 * their words.
 */
export async function serving(c: Context<AppEnv>): Promise<Response> {
  const models = await fleetOf(c.env).models()
  if (models.length === 0) throw new AparError('no_gpu_node', 'no gpu node can be reached now')
  return c.json({ status: 'ok' })
}

/** Readiness: there is a gpu node that can serve requests. Names and number of nodes are not public. */
export async function ready(c: Context<AppEnv>): Promise<Response> {
  const models = await fleetOf(c.env).models()
  const reasons = models.length > 0 ? [] : ['no_gpu_node']
  const status = reasons.length === 0 ? 'ready' : 'not_ready'
  // Requests are served, but their streams cannot move between all nodes. `/admin/v1/nodes` says which.
  const differs = [...new Set(models.flatMap((model) => model.differs))]
  const warnings = differs.map((part) => `${part}_differs`)
  return c.json(
    { status, reasons, ...(warnings.length > 0 && { warnings }) },
    reasons.length === 0 ? 200 : 503,
  )
}
