import { DurableObject } from 'cloudflare:workers'
import { type ApiKeyRecord, MAX_PREVIOUS } from '../../shared/api-keys.ts'
import type { Env } from '../env.ts'
import { configuredKeys } from './configured-keys.ts'
import { toHex } from './credentials.ts'
import { type Hashes, inGrace } from './key-secrets.ts'
import { keyPrincipalId } from './principal.ts'

/** Result of a change: the new record, or why nothing was changed. */
export type ChangeResult = ApiKeyRecord | 'unknown' | 'revoked' | 'configured' | 'in_grace'

/** The method of KeyLimits that is used here. (Its class cannot be imported: it imports this file.) */
interface RecordHolder extends Rpc.DurableObjectBranded {
  changed(record: ApiKeyRecord): void
}

type UnsignedUntil = number | null

type Row = Record<string, SqlStorageValue> & { record: string; unsigned_until: UnsignedUntil }

/** With this a worker tells credentials that this edge has made from all others (key-check.ts). */
export interface CheckData {
  /** The secret of the MACs at the end of keys and tickets, in hex digits. */
  readonly macSecret: string
  /** Keys that may have secrets without a MAC. */
  readonly unsigned: readonly (Hashes & { readonly id: string })[]
}

/** Owns all API keys except those of the `API_KEYS` secret. Each key's KeyLimits caches its record. */
export class KeyStore extends DurableObject<Env> {
  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env)
    const { sql } = ctx.storage
    sql.exec('CREATE TABLE IF NOT EXISTS api_key (id TEXT PRIMARY KEY, record TEXT)')
    const columns = sql.exec("SELECT name FROM pragma_table_info('api_key')").toArray()
    // Unix seconds until which the key may have a secret without a MAC; NULL: for ever, which is also what an edge from
    // before this column writes.
    if (!columns.some(({ name }) => name === 'unsigned_until'))
      sql.exec('ALTER TABLE api_key ADD COLUMN unsigned_until INTEGER')
    sql.exec('CREATE TABLE IF NOT EXISTS mac_secret (hex TEXT)')
  }

  checkData(): CheckData {
    const rows = this.ctx.storage.sql.exec<{ record: string }>(
      'SELECT record FROM api_key WHERE unsigned_until IS NULL OR unsigned_until > ?',
      Math.floor(Date.now() / 1000),
    )
    const unsigned = rows.toArray().map(({ record }) => {
      const { id, salt, hash, previous }: ApiKeyRecord = JSON.parse(record)
      return { id, salt, hash, previous }
    })
    return { macSecret: this.#macSecret(), unsigned }
  }

  /**
   * False when the id is taken, also by a revoked key. `signed`: the key's secret has a MAC; unset in calls of a worker
   * from before there were MACs.
   */
  async create(record: ApiKeyRecord, signed = false): Promise<boolean> {
    if (this.get(record.id)) return false
    this.#save(record, signed ? 0 : null)
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
   * earlier ones until their own grace times end; with 0, all of them end now. `signed` as for `create`.
   */
  rotate(id: string, hash: string, graceSeconds: number, signed = false): Promise<ChangeResult> {
    const now = Math.floor(Date.now() / 1000)
    return this.#change(
      id,
      (record) => {
        if (graceSeconds === 0) return { hash, previous: null }
        const previous = inGrace(record.previous, now)
        if (previous.length === MAX_PREVIOUS) return 'in_grace'
        return { hash, previous: [...previous, { hash: record.hash, expires_at: now + graceSeconds }] }
      },
      (before, { previous }) => {
        if (!signed) return null
        const lastEnd = Math.max(0, ...(previous ?? []).map(({ expires_at }) => expires_at))
        return Math.min(before ?? lastEnd, lastEnd)
      },
    )
  }

  /**
   * There is no await between reading and writing, so concurrent changes are applied one after the other.
   * `unsignedUntilOf`: as the column, from its value before and the changed record; by default it stays.
   */
  async #change(
    id: string,
    changeOf: (record: ApiKeyRecord) => Partial<ApiKeyRecord> | 'in_grace',
    unsignedUntilOf = (before: UnsignedUntil, _changed: ApiKeyRecord): UnsignedUntil => before,
  ): Promise<ChangeResult> {
    if (configuredKeys(this.env.API_KEYS).has(id)) return 'configured'
    const row = this.#row(id)
    if (!row) return 'unknown'
    const record: ApiKeyRecord = JSON.parse(row.record)
    const change = changeOf(record)
    if (change === 'in_grace') return change
    const revoking = change.revoked_at !== undefined
    if (record.revoked_at !== null && !revoking) return 'revoked'
    const changed = record.revoked_at === null ? { ...record, ...change } : record
    this.#save(changed, unsignedUntilOf(row.unsigned_until, changed))
    await this.#updateKeyLimits(changed)
    return changed
  }

  #read(id: string): ApiKeyRecord | undefined {
    const row = this.#row(id)
    return row && JSON.parse(row.record)
  }

  #row(id: string): Row | undefined {
    return this.ctx.storage.sql
      .exec<Row>('SELECT record, unsigned_until FROM api_key WHERE id = ?', id)
      .toArray()[0]
  }

  #save(record: ApiKeyRecord, unsignedUntil: UnsignedUntil): void {
    this.ctx.storage.sql.exec(
      'INSERT OR REPLACE INTO api_key (id, record, unsigned_until) VALUES (?, ?, ?)',
      record.id,
      JSON.stringify(record),
      unsignedUntil,
    )
  }

  /** Made at first use, and then the same for ever. */
  #macSecret(): string {
    const { sql } = this.ctx.storage
    const stored = sql.exec<{ hex: string }>('SELECT hex FROM mac_secret').toArray()[0]
    if (stored) return stored.hex
    const hex = toHex(crypto.getRandomValues(new Uint8Array(32)))
    sql.exec('INSERT INTO mac_secret (hex) VALUES (?)', hex)
    return hex
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
