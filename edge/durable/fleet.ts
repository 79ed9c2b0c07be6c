import { DurableObject } from 'cloudflare:workers'
import type { Heartbeat, Lease, ServedModel } from '../../shared/protocol/fleet.ts'
import type { Env } from '../env.ts'
import { type Choice, Roster } from './roster.ts'

/** Three lost heart-beats end a lease. */
export const LEASE: Lease = { heartbeat_ms: 5_000, lease_ms: 15_000 }

/** All gpu nodes and their leases. Answers from memory; SQLite only rebuilds the memory of an evicted object. */
export class Fleet extends DurableObject<Env> {
  readonly #roster = new Roster()

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env)
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
    this.#save(id, heartbeat, now + LEASE.lease_ms)
    for (const gone of this.#roster.forget(now))
      this.ctx.storage.sql.exec('DELETE FROM node WHERE id = ?', gone)
    return LEASE
  }

  /** Ends a node's lease now; false when it had none. */
  leave(id: string): boolean {
    const now = Date.now()
    const member = this.#roster.get(id)
    if (!member || member.expiresAt <= now) return false
    this.#save(id, member.heartbeat, now)
    return true
  }

  /** The node that should take a request for `model`, none of `exclude`. */
  pick(model: string, exclude: readonly string[]): Choice {
    return this.#roster.pick(model, exclude, Date.now(), Math.random)
  }

  isAlive(id: string): boolean {
    return this.#roster.isAlive(id, Date.now())
  }

  models(): ServedModel[] {
    return this.#roster.models(Date.now())
  }

  #save(id: string, heartbeat: Heartbeat, expiresAt: number): void {
    this.#roster.set({ id, heartbeat, expiresAt })
    this.ctx.storage.sql.exec(
      'INSERT OR REPLACE INTO node (id, heartbeat, expires_at) VALUES (?, ?, ?)',
      id,
      JSON.stringify(heartbeat),
      expiresAt,
    )
  }
}
