import { DurableObject } from 'cloudflare:workers'
import type { Heartbeat, Lease, ServedModel } from '../../shared/protocol/fleet.ts'
import type { Env } from '../env.ts'
import { NodeRegistry, type RouteDecision, type RouteRequest } from './node-registry.ts'
import { ROUTING_POLICIES } from './routing.ts'

/** A lease expires after three missed heartbeats. */
export const LEASE: Lease = { heartbeat_ms: 5_000, lease_ms: 15_000 }

/** How long a request waits when no node can take it, and how many requests may wait. */
const QUEUE_MS = 2_000
const MAX_QUEUE = 256

/** All gpu nodes and their leases. Answers from memory; SQLite is read only to restore an evicted object. */
export class Fleet extends DurableObject<Env> {
  readonly #registry: NodeRegistry
  /** Requests that wait for a node, in order of arrival. */
  readonly #queue = new Set<() => void>()

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env)
    this.#registry = new NodeRegistry(ROUTING_POLICIES.find((policy) => policy === env.ROUTING_POLICY))
    const { sql } = ctx.storage
    sql.exec('CREATE TABLE IF NOT EXISTS node (id TEXT PRIMARY KEY, heartbeat TEXT, expires_at INTEGER)')
    const rows = sql.exec<{ id: string; heartbeat: string; expires_at: number }>('SELECT * FROM node')
    for (const { id, heartbeat, expires_at } of rows) {
      this.#registry.set({ id, heartbeat: JSON.parse(heartbeat), expiresAt: expires_at })
    }
  }

  /** Registers a node or renews its lease. */
  heartbeat(id: string, heartbeat: Heartbeat): Lease {
    const now = Date.now()
    this.#save(id, heartbeat, now + LEASE.lease_ms, now)
    for (const retry of [...this.#queue]) retry()
    for (const forgotten of this.#registry.forget(now))
      this.ctx.storage.sql.exec('DELETE FROM node WHERE id = ?', forgotten)
    return LEASE
  }

  /** Ends a node's lease now. False when it had none. */
  deregister(id: string): boolean {
    const now = Date.now()
    const member = this.#registry.get(id)
    if (!member || member.expiresAt <= now) return false
    this.#save(id, member.heartbeat, now, now)
    return true
  }

  /** Chooses a node for a request. When there is none, waits a little for one. */
  async pick(request: RouteRequest): Promise<RouteDecision> {
    const deadline = Date.now() + QUEUE_MS
    for (;;) {
      const decision = this.#registry.pick(request, Date.now(), Math.random)
      if ('node' in decision || decision.refused === 'model_not_found' || !decision.wait) return decision
      if (Date.now() >= deadline || this.#queue.size >= MAX_QUEUE) return decision
      await this.#nextHeartbeat(deadline)
    }
  }

  /** A node failed to serve a request. */
  reportFailure(id: string): void {
    this.#registry.failed(id, Date.now())
  }

  isAlive(id: string): boolean {
    return this.#registry.isAlive(id, Date.now())
  }

  models(): ServedModel[] {
    return this.#registry.models(Date.now())
  }

  /** Resolves at the next heartbeat of any node, at the latest at the deadline. */
  #nextHeartbeat(deadline: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer)
        this.#queue.delete(wake)
        resolve()
      }
      const timer = setTimeout(wake, deadline - Date.now())
      this.#queue.add(wake)
    })
  }

  #save(id: string, heartbeat: Heartbeat, expiresAt: number, now: number): void {
    this.#registry.set({ id, heartbeat, expiresAt }, now)
    this.ctx.storage.sql.exec(
      'INSERT OR REPLACE INTO node (id, heartbeat, expires_at) VALUES (?, ?, ?)',
      id,
      JSON.stringify(heartbeat),
      expiresAt,
    )
  }
}

/** The one Fleet object. */
export function fleetOf(env: Env): DurableObjectStub<Fleet> {
  return env.FLEET.getByName('fleet') as DurableObjectStub<Fleet>
}
