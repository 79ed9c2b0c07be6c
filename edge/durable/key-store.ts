import { DurableObject } from 'cloudflare:workers'
import type { ApiKeyRecord } from '../../shared/api-keys.ts'
import { configuredKeys } from '../configured-keys.ts'
import type { Env } from '../env.ts'
import { keyPrincipalId } from '../principal.ts'

/** Outcome of a change: the record as it is now, or why it is as it was. */
export type Changed = ApiKeyRecord | 'unknown' | 'revoked' | 'configured'

/** Owns all API keys, but for those that the configuration fixes. Each key's KeyLimits holds a copy of its record. */
export class KeyStore extends DurableObject<Env> {
  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env)
    ctx.storage.sql.exec('CREATE TABLE IF NOT EXISTS api_key (id TEXT PRIMARY KEY, record TEXT)')
  }

  /** False when the id is taken, by a revoked key as well. */
  async create(record: ApiKeyRecord): Promise<boolean> {
    if (this.get(record.id)) return false
    this.#save(record)
    await this.#tell(record)
    return true
  }

  get(id: string): ApiKeyRecord | undefined {
    return configuredKeys(this.env.API_KEYS).get(id) ?? this.#read(id)
  }

  /** Configured keys first, then the others by id, from after `after` on. */
  list(after: string, limit: number): ApiKeyRecord[] {
    const fixed = after === '' ? [...configuredKeys(this.env.API_KEYS).values()] : []
    const rows = this.ctx.storage.sql.exec<{ record: string }>(
      'SELECT record FROM api_key WHERE id > ? ORDER BY id LIMIT ?',
      after,
      limit,
    )
    return [...fixed, ...rows.toArray().map(({ record }): ApiKeyRecord => JSON.parse(record))]
  }

  /** In force when this returns: the key's KeyLimits has heard of it. A revoked key stays as it is. */
  async change(id: string, change: Partial<ApiKeyRecord>): Promise<Changed> {
    if (configuredKeys(this.env.API_KEYS).has(id)) return 'configured'
    const record = this.#read(id)
    if (!record) return 'unknown'
    const revoking = change.revoked_at !== undefined
    if (record.revoked_at !== null && !revoking) return 'revoked'
    const changed = record.revoked_at === null ? { ...record, ...change } : record
    this.#save(changed)
    await this.#tell(changed)
    return changed
  }

  #read(id: string): ApiKeyRecord | undefined {
    const rows = this.ctx.storage.sql.exec<{ record: string }>('SELECT record FROM api_key WHERE id = ?', id)
    const row = rows.toArray()[0]
    return row && JSON.parse(row.record)
  }

  #save(record: ApiKeyRecord): void {
    const json = JSON.stringify(record)
    this.ctx.storage.sql.exec('INSERT OR REPLACE INTO api_key (id, record) VALUES (?, ?)', record.id, json)
  }

  async #tell(record: ApiKeyRecord): Promise<void> {
    await this.env.KEY_LIMITS.getByName(keyPrincipalId(record.id)).changed(record)
  }
}
