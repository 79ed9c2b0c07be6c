import { DurableObject } from 'cloudflare:workers'
import { type ApiKeyRecord, MAX_PREVIOUS } from '../../shared/api-keys.ts'
import type { Env } from '../env.ts'
import { configuredKeys } from './configured-keys.ts'
import { stillGood } from './key-secrets.ts'
import { keyPrincipalId } from './principal.ts'

/** Outcome of a change: the record as it is now, or why it is as it was. */
export type Changed = ApiKeyRecord | 'unknown' | 'revoked' | 'configured' | 'in_grace'

/** What a KeyLimits object does with a record that has changed. (Its class imports this file.) */
interface RecordHolder extends Rpc.DurableObjectBranded {
  changed(record: ApiKeyRecord): void
}

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

  /** By id, from after `after` on. */
  list(after: string, limit: number): ApiKeyRecord[] {
    const fixed = [...configuredKeys(this.env.API_KEYS).values()].filter(({ id }) => id > after)
    const rows = this.ctx.storage.sql.exec<{ record: string }>(
      'SELECT record FROM api_key WHERE id > ? ORDER BY id LIMIT ?',
      after,
      limit,
    )
    const stored = rows.toArray().map(({ record }): ApiKeyRecord => JSON.parse(record))
    return [...fixed, ...stored].sort((a, b) => (a.id < b.id ? -1 : 1)).slice(0, limit)
  }

  /** In force when this returns: the key's KeyLimits has heard of it. A revoked key stays as it is. */
  change(id: string, change: Partial<ApiKeyRecord>): Promise<Changed> {
    return this.#change(id, () => change)
  }

  /**
   * As `change`. `hash` is of the new secret with the key's salt; the one until now, and those before it, stay good for
   * their grace times, or end if this one has none.
   */
  rotate(id: string, hash: string, graceSeconds: number): Promise<Changed> {
    return this.#change(id, (record) => {
      if (graceSeconds === 0) return { hash, previous: null }
      const now = Math.floor(Date.now() / 1000)
      const previous = stillGood(record.previous, now)
      if (previous.length === MAX_PREVIOUS) return 'in_grace'
      return { hash, previous: [...previous, { hash: record.hash, expires_at: now + graceSeconds }] }
    })
  }

  /** In one step: two changes at once come one after the other. */
  async #change(
    id: string,
    changeOf: (record: ApiKeyRecord) => Partial<ApiKeyRecord> | 'in_grace',
  ): Promise<Changed> {
    if (configuredKeys(this.env.API_KEYS).has(id)) return 'configured'
    const record = this.#read(id)
    if (!record) return 'unknown'
    const change = changeOf(record)
    if (change === 'in_grace') return change
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
    const limits = this.env.KEY_LIMITS.getByName(keyPrincipalId(record.id)) as DurableObjectStub<RecordHolder>
    await limits.changed(record)
  }
}

/** The one KeyStore object. */
export function keyStoreOf(env: Env): DurableObjectStub<KeyStore> {
  return env.KEY_STORE.getByName('keys') as DurableObjectStub<KeyStore>
}
