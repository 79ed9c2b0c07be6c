import { DurableObject } from 'cloudflare:workers'
import { differences } from '../../shared/protocol/fingerprint.ts'
import type { Heartbeat, Lease } from '../../shared/protocol/fleet.ts'
import type { Env } from '../env.ts'
import { logOf } from '../log.ts'
import { LEASE } from './lease.ts'
import {
  type FleetModel,
  type Member,
  NodeRegistry,
  type RouteDecision,
  type RouteRequest,
} from './node-registry.ts'
import { ROUTING_POLICIES } from './routing.ts'
import { type Suspension, Suspensions } from './suspensions.ts'

/** The answer to a heartbeat of a node that may not register now. */
export interface Suspended {
  readonly suspendedMs: number
}

/** What the operator sees of a node. */
export interface NodeStatus {
  readonly member: Member | undefined
  readonly suspension: Suspension | undefined
  readonly id: string
  readonly leaseMs: number
}

/** How long a request waits when no node can take it, and how many requests may wait. */
const QUEUE_MS = 2_000
const MAX_QUEUE = 256

/** `expires_at` of a stored node with a lease: its renewals are not stored, and a restored Fleet gives it a new one. */
const ALIVE = Number.MAX_SAFE_INTEGER

/**
 * All gpu nodes and their leases. Answers from memory; SQLite is read only to restore an evicted object. Written when
 * a node comes, changes or goes, not at its heartbeats.
 */
export class Fleet extends DurableObject<Env> {
  readonly #registry: NodeRegistry
  readonly #suspensions: Suspensions
  /** Requests that wait for a node, in order of arrival. */
  readonly #queue = new Set<() => void>()
  /** By the node's id, what SQLite has of it. */
  readonly #stored = new Map<string, string>()
  /** Ids of the nodes that SQLite has with a lease. */
  readonly #storedAlive = new Set<string>()

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env)
    this.#registry = new NodeRegistry(ROUTING_POLICIES.find((policy) => policy === env.ROUTING_POLICY))
    const { sql } = ctx.storage
    sql.exec('CREATE TABLE IF NOT EXISTS node (id TEXT PRIMARY KEY, heartbeat TEXT, expires_at INTEGER)')
    const rows = sql.exec<{ id: string; heartbeat: string; expires_at: number }>('SELECT * FROM node')
    const newLease = Date.now() + LEASE.lease_ms
    for (const { id, heartbeat, expires_at } of rows) {
      this.#registry.set({ id, heartbeat: JSON.parse(heartbeat), expiresAt: Math.min(expires_at, newLease) })
      if (expires_at === ALIVE) this.#storedAlive.add(id)
    }
    sql.exec('CREATE TABLE IF NOT EXISTS suspension (id TEXT PRIMARY KEY, record TEXT)')
    const suspensions = sql.exec<{ record: string }>('SELECT record FROM suspension')
    this.#suspensions = new Suspensions([...suspensions].map(({ record }) => JSON.parse(record)))
  }

  /** Registers a node or renews its lease, unless it is suspended. */
  heartbeat(id: string, heartbeat: Heartbeat): Lease | Suspended {
    const now = Date.now()
    const suspendedMs = this.#suspensions.leftMs(id, now)
    if (suspendedMs > 0) return { suspendedMs }
    if (!this.#registry.isAlive(id, now)) this.#warnIfModelsDiffer(id, heartbeat, now)
    this.#registry.set({ id, heartbeat, expiresAt: now + LEASE.lease_ms }, now)
    for (const retry of [...this.#queue]) retry()
    for (const forgotten of this.#suspensions.forget(now))
      this.ctx.storage.sql.exec('DELETE FROM suspension WHERE id = ?', forgotten)
    for (const forgotten of this.#registry.forget(now)) {
      this.ctx.storage.sql.exec('DELETE FROM node WHERE id = ?', forgotten)
      this.#stored.delete(forgotten)
      this.#storedAlive.delete(forgotten)
    }
    for (const member of this.#registry.members()) {
      const ended = member.expiresAt <= now && this.#storedAlive.has(member.id)
      if (ended || member.id === id) this.#store(member, now)
    }
    return LEASE
  }

  /** Ends a node's lease now. False when it had none. */
  deregister(id: string): boolean {
    const now = Date.now()
    const member = this.#registry.get(id)
    if (!member || member.expiresAt <= now) return false
    const ended = { ...member, expiresAt: now }
    this.#registry.set(ended, now)
    this.#store(ended, now)
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

  /** A node sent what no honest node sends: ends its lease, and refuses its heartbeats for a while. */
  suspend(id: string, why: { code: string; message: string }): void {
    const suspension = this.#suspensions.add(id, why, Date.now())
    if (!suspension) return
    const { until, times, code, reason } = suspension
    const sql = 'INSERT OR REPLACE INTO suspension (id, record) VALUES (?, ?)'
    this.ctx.storage.sql.exec(sql, id, JSON.stringify(suspension))
    this.deregister(id)
    const seconds = Math.round((until - Date.now()) / 1000)
    logOf(this.env).warn('a gpu node was suspended', { node: id, code, reason, times, seconds })
  }

  /** Time until the node may register; 0 when it may now. */
  suspendedMs(id: string): number {
    return this.#suspensions.leftMs(id, Date.now())
  }

  /** Time until the node's lease ends, in ms; 0 or less when it has ended. */
  leaseMs(id: string): number {
    return Math.min(LEASE.lease_ms, this.#registry.leaseMs(id, Date.now()))
  }

  models(): FleetModel[] {
    return this.#registry.models(Date.now())
  }

  /** Nodes with a lease, and suspended ones. */
  nodes(): NodeStatus[] {
    const now = Date.now()
    const suspensions = new Map(this.#suspensions.current(now).map((each) => [each.id, each]))
    const alive = this.#registry.members().filter(({ id }) => this.#registry.isAlive(id, now))
    const ids = new Set([...alive.map(({ id }) => id), ...suspensions.keys()])
    return [...ids].sort().map((id) => {
      const leaseMs = Math.max(0, this.#registry.leaseMs(id, now))
      return { id, member: this.#registry.get(id), suspension: suspensions.get(id), leaseMs }
    })
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

  #warnIfModelsDiffer(node: string, { models }: Heartbeat, now: number): void {
    const served = this.#registry.models(now)
    for (const { id, fingerprint } of models) {
      const others = served.find((model) => model.id === id)?.fingerprints ?? []
      const differs = differences([fingerprint, ...others])
      if (differs.length > 0)
        logOf(this.env).warn('gpu nodes of a model differ', { node, model: id, differs: differs.join() })
    }
  }

  /** The load is not compared: it changes with each heartbeat, and a restored Fleet gets a new one within seconds. */
  #store({ id, heartbeat, expiresAt }: Member, now: number): void {
    const expires = expiresAt > now ? ALIVE : expiresAt
    const stored = JSON.stringify([{ ...heartbeat, load: null }, expires])
    if (this.#stored.get(id) === stored) return
    this.#stored.set(id, stored)
    if (expires === ALIVE) this.#storedAlive.add(id)
    else this.#storedAlive.delete(id)
    this.ctx.storage.sql.exec(
      'INSERT OR REPLACE INTO node (id, heartbeat, expires_at) VALUES (?, ?, ?)',
      id,
      JSON.stringify(heartbeat),
      expires,
    )
  }
}

/** The one Fleet object. */
export function fleetOf(env: Env): DurableObjectStub<Fleet> {
  return env.FLEET.getByName('fleet') as DurableObjectStub<Fleet>
}
