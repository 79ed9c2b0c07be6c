import { DurableObject } from 'cloudflare:workers'
import type { CallContext } from '../../shared/protocol/node.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import type { Env } from '../env.ts'
import type { Reservation } from '../keys/admission.ts'
import type { NodeAddress } from '../nodes/node-socket.ts'

/** All that is stored of a stream, when it starts and when it moves to another node. No tokens are stored. */
export interface StreamRecord {
  /** A principal's id. */
  readonly owner: string | undefined
  /** The call context, under the name that stored records have. */
  readonly origin?: CallContext | undefined
  readonly request: GenerateRequest
  readonly node: NodeAddress
  /** The reservation in the owner's limits, under the name that stored records have. */
  readonly lease: Reservation | undefined
}

/** A session renews its record this often while it lives. */
export const RENEW_MS = 60_000
/**
 * How long a record is kept without its session: two renewals may be lost. A session that has lost its memory does not
 * read from the gpu node any more, so the node ends the stream long before.
 */
const KEEP_MS = 3 * RENEW_MS
/** What is left of streams whose sessions died without a word is removed within this time. */
const CLEAN_MS = 3_600_000
/** One object would limit how many streams can start in a second. */
const SHARDS = 8
/** SQLite's files do not shrink: without records for this long, an object with a larger database makes a new one. */
const EMPTY_MS = 5_000
const SMALL_BYTES = 32 * 1024

/**
 * The records of live streams, with which a session that has lost its memory goes on. They are not stored in the
 * sessions' own storage: a session stores nothing, so that no file is created for it (docs/adr/0025).
 */
export class StreamRecords extends DurableObject<Env> {
  #ready = false
  #emptyTimer: ReturnType<typeof setTimeout> | null = null

  async put(stream: string, record: StreamRecord): Promise<void> {
    await this.#prepare()
    this.ctx.storage.sql.exec(
      'INSERT OR REPLACE INTO stream (id, record, expires_at) VALUES (?, ?, ?)',
      stream,
      JSON.stringify(record),
      Date.now() + KEEP_MS,
    )
  }

  async renew(stream: string): Promise<void> {
    await this.#prepare()
    this.ctx.storage.sql.exec('UPDATE stream SET expires_at = ? WHERE id = ?', Date.now() + KEEP_MS, stream)
  }

  async get(stream: string): Promise<StreamRecord | undefined> {
    await this.#prepare()
    const rows = this.ctx.storage.sql.exec<{ record: string }>(
      'SELECT record FROM stream WHERE id = ? AND expires_at > ?',
      stream,
      Date.now(),
    )
    const row = rows.toArray()[0]
    return row && JSON.parse(row.record)
  }

  async delete(stream: string): Promise<void> {
    await this.#prepare()
    this.ctx.storage.sql.exec('DELETE FROM stream WHERE id = ?', stream)
    if (!this.#isEmpty()) return
    clearTimeout(this.#emptyTimer)
    this.#emptyTimer = setTimeout(() => this.#giveUpIfEmpty(SMALL_BYTES), EMPTY_MS)
  }

  override async alarm(): Promise<void> {
    await this.#prepare()
    this.ctx.storage.sql.exec('DELETE FROM stream WHERE expires_at <= ?', Date.now())
    if (!this.#giveUpIfEmpty(0)) await this.ctx.storage.setAlarm(Date.now() + CLEAN_MS)
  }

  /** The table, and the alarm that clears it. */
  async #prepare(): Promise<void> {
    if (this.#ready) return
    this.ctx.storage.sql.exec(
      'CREATE TABLE IF NOT EXISTS stream (id TEXT PRIMARY KEY, record TEXT, expires_at INTEGER)',
    )
    this.#ready = true
    if ((await this.ctx.storage.getAlarm()) === null) await this.ctx.storage.setAlarm(Date.now() + CLEAN_MS)
  }

  #isEmpty(): boolean {
    return this.ctx.storage.sql.exec('SELECT 1 FROM stream LIMIT 1').toArray().length === 0
  }

  /** Deletes the storage, with its table and its alarm, if there are no records and it is larger than `bytes`. */
  #giveUpIfEmpty(bytes: number): boolean {
    const { storage } = this.ctx
    if (!this.#ready || storage.sql.databaseSize <= bytes || !this.#isEmpty()) return false
    this.#ready = false
    this.ctx.waitUntil(storage.deleteAll())
    return true
  }
}

/** The object that has this stream's record. `stream`: hexadecimal, evenly distributed. */
export function recordsOf(env: Env, stream: string): DurableObjectStub<StreamRecords> {
  const shard = Number.parseInt(stream.slice(0, 4), 16) % SHARDS
  return env.STREAM_RECORDS.getByName(String(shard)) as DurableObjectStub<StreamRecords>
}
