import { DurableObject } from 'cloudflare:workers'
import { type ApiKeyRecord, MAX_PREVIOUS } from '../../shared/api-keys.ts'
import type { Env } from '../env.ts'
import { configuredKeys } from './configured-keys.ts'
import { inGrace } from './key-secrets.ts'
import { keyPrincipalId } from './principal.ts'

/** Result of a change: the new record, or why nothing was changed. */
export type ChangeResult = ApiKeyRecord | 'unknown' | 'revoked' | 'configured' | 'in_grace'

/** The method of KeyLimits that is used here. (Its class cannot be imported: it imports this file.) */
interface RecordHolder extends Rpc.DurableObjectBranded {
  changed(record: ApiKeyRecord): void
}

/** Owns all API keys except those of the `API_KEYS` secret. Each key's KeyLimits caches its record. */
export class KeyStore extends DurableObject<Env> {
  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env)
    ctx.storage.sql.exec('CREATE TABLE IF NOT EXISTS api_key (id TEXT PRIMARY KEY, record TEXT)')
  }

  /** False when the id is taken, also by a revoked key. */
  async create(record: ApiKeyRecord): Promise<boolean> {
    if (this.get(record.id)) return false
    this.#save(record)
    await this.#updateKeyLimits(record)
    return true
  }

  get(id: string): ApiKeyRecord | undefined {
    return configuredKeys(this.env.API_KEYS).get(id) ?? this.#read(id)
  }

  /** In order of id, the first one behind `after`. */
  list(after: string, limit: number): ApiKeyRecord[] {
    const configured = [...configuredKeys(this.env.API_KEYS).values()].filter(({ id }) => id > after)
    const rows = this.ctx.storage.sql.exec<{ record: string }>(
      'SELECT record FROM api_key WHERE id > ? ORDER BY id LIMIT ?',
      after,
      limit,
    )
    const stored = rows.toArray().map(({ record }): ApiKeyRecord => JSON.parse(record))
    return [...configured, ...stored].sort((a, b) => (a.id < b.id ? -1 : 1)).slice(0, limit)
  }

  /** The change is in force when this returns: the key's KeyLimits has the new record. A revoked key is not changed. */
  change(id: string, change: Partial<ApiKeyRecord>): Promise<ChangeResult> {
    return this.#change(id, () => change)
  }

  /**
   * As `change`. `hash` is of the new secret with the key's salt. The current secret stays valid for `graceSeconds`,
   * earlier ones until their own grace times end; with 0, all of them end now.
   */
  rotate(id: string, hash: string, graceSeconds: number): Promise<ChangeResult> {
    return this.#change(id, (record) => {
      if (graceSeconds === 0) return { hash, previous: null }
      const now = Math.floor(Date.now() / 1000)
      const previous = inGrace(record.previous, now)
      if (previous.length === MAX_PREVIOUS) return 'in_grace'
      return { hash, previous: [...previous, { hash: record.hash, expires_at: now + graceSeconds }] }
    })
  }

  /** There is no await between reading and writing, so concurrent changes are applied one after the other. */
  async #change(
    id: string,
    changeOf: (record: ApiKeyRecord) => Partial<ApiKeyRecord> | 'in_grace',
  ): Promise<ChangeResult> {
    if (configuredKeys(this.env.API_KEYS).has(id)) return 'configured'
    const record = this.#read(id)
    if (!record) return 'unknown'
    const change = changeOf(record)
    if (change === 'in_grace') return change
    const revoking = change.revoked_at !== undefined
    if (record.revoked_at !== null && !revoking) return 'revoked'
    const changed = record.revoked_at === null ? { ...record, ...change } : record
    this.#save(changed)
    await this.#updateKeyLimits(changed)
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

  async #updateKeyLimits(record: ApiKeyRecord): Promise<void> {
    const limits = this.env.KEY_LIMITS.getByName(keyPrincipalId(record.id)) as DurableObjectStub<RecordHolder>
    await limits.changed(record)
  }
}

/** The one KeyStore object. */
export function keyStoreOf(env: Env): DurableObjectStub<KeyStore> {
  return env.KEY_STORE.getByName('keys') as DurableObjectStub<KeyStore>
}
