import { DurableObject } from 'cloudflare:workers'
import type { Heartbeat, Lease, ServedModel } from '../../shared/protocol/fleet.ts'
import type { Env } from '../env.ts'
import { type Choice, type Question, Roster } from './node-registry.ts'
import { ROUTING_POLICIES } from './routing.ts'

/** Three lost heart-beats end a lease. */
export const LEASE: Lease = { heartbeat_ms: 5_000, lease_ms: 15_000 }

/** How long a request waits for a node when none can take it, and how many may. */
const QUEUE_MS = 2_000
const MAX_QUEUE = 256

/** All gpu nodes and their leases. Answers from memory; SQLite only rebuilds the memory of an evicted object. */
export class Fleet extends DurableObject<Env> {
  readonly #roster: Roster
  /** Requests that wait for a node, in order of arrival. */
  readonly #queue = new Set<() => void>()

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env)
    this.#roster = new Roster(ROUTING_POLICIES.find((policy) => policy === env.ROUTING_POLICY))
    const { sql } = ctx.storage
    sql.exec('CREATE TABLE IF NOT EXISTS node (id TEXT PRIMARY KEY, heartbeat TEXT, expires_at INTEGER)')
    const rows = sql.exec<{ id: string; heartbeat: string; expires_at: number }>('SELECT * FROM node')
    for (const { id, heartbeat, expires_at } of rows) {
      this.#roster.set({ id, heartbeat: JSON.parse(heartbeat), expiresAt: expires_at })
    }
  }

  /** Registers a node or renews its lease. */
  beat(id: string, heartbeat: Heartbeat): Lease {
    const now = Date.now()
    this.#save(id, heartbeat, now + LEASE.lease_ms, now)
    for (const retry of [...this.#queue]) retry()
    for (const gone of this.#roster.forget(now))
      this.ctx.storage.sql.exec('DELETE FROM node WHERE id = ?', gone)
    return LEASE
  }

  /** Ends a node's lease now; false when it had none. */
  leave(id: string): boolean {
    const now = Date.now()
    const member = this.#roster.get(id)
    if (!member || member.expiresAt <= now) return false
    this.#save(id, member.heartbeat, now, now)
    return true
  }

  /** The node that should take a request. When there is none, one that comes soon. */
  async pick(question: Question): Promise<Choice> {
    const deadline = Date.now() + QUEUE_MS
    for (;;) {
      const choice = this.#roster.pick(question, Date.now(), Math.random)
      if ('node' in choice || choice.refused === 'model_not_found' || !choice.wait) return choice
      if (Date.now() >= deadline || this.#queue.size >= MAX_QUEUE) return choice
      await this.#change(deadline)
    }
  }

  /** A request could not be served there. */
  reportFailure(id: string): void {
    this.#roster.failed(id, Date.now())
  }

  isAlive(id: string): boolean {
    return this.#roster.isAlive(id, Date.now())
  }

  models(): ServedModel[] {
    return this.#roster.models(Date.now())
  }

  /** Settles with the next heart-beat, at the latest at the deadline. */
  #change(deadline: number): Promise<void> {
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
    this.#roster.set({ id, heartbeat, expiresAt }, now)
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
