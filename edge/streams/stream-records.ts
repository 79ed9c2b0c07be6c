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
/** One object would limit how many streams can start in a second. */
const SHARDS = 8

/**
 * The records of live streams, with which a session that has lost its memory goes on. They are not stored in the
 * sessions' own storage: a session stores nothing, so that no file is created for it (docs/adr/0025).
 */
export class StreamRecords extends DurableObject<Env> {
  #ready = false

  put(stream: string, record: StreamRecord): void {
    this.#prepare()
    this.ctx.storage.sql.exec(
      'INSERT OR REPLACE INTO stream (id, record, expires_at) VALUES (?, ?, ?)',
      stream,
      JSON.stringify(record),
      Date.now() + KEEP_MS,
    )
  }

  renew(stream: string): void {
    this.#prepare()
    this.ctx.storage.sql.exec('UPDATE stream SET expires_at = ? WHERE id = ?', Date.now() + KEEP_MS, stream)
  }

  get(stream: string): StreamRecord | undefined {
    this.#prepare()
    const rows = this.ctx.storage.sql.exec<{ record: string }>(
      'SELECT record FROM stream WHERE id = ? AND expires_at > ?',
      stream,
      Date.now(),
    )
    const row = rows.toArray()[0]
    return row && JSON.parse(row.record)
  }

  delete(stream: string): void {
    this.#prepare()
    this.ctx.storage.sql.exec('DELETE FROM stream WHERE id = ?', stream)
  }

  /** Without records the object gives up its storage: SQLite's files do not shrink when rows are deleted. */
  override async alarm(): Promise<void> {
    this.#prepare()
    const { sql } = this.ctx.storage
    sql.exec('DELETE FROM stream WHERE expires_at <= ?', Date.now())
    const { left } = sql.exec<{ left: number }>('SELECT COUNT(*) AS left FROM stream').one()
    this.#ready = false
    if (left === 0) await this.ctx.storage.deleteAll()
    else this.#prepare()
  }

  /** The table, and the alarm that empties it. */
  #prepare(): void {
    if (this.#ready) return
    this.#ready = true
    this.ctx.storage.sql.exec(
      'CREATE TABLE IF NOT EXISTS stream (id TEXT PRIMARY KEY, record TEXT, expires_at INTEGER)',
    )
    void this.ctx.storage.setAlarm(Date.now() + RENEW_MS)
  }
}

/** The object that has this stream's record. `stream`: hexadecimal, evenly distributed. */
export function recordsOf(env: Env, stream: string): DurableObjectStub<StreamRecords> {
  const shard = Number.parseInt(stream.slice(0, 4), 16) % SHARDS
  return env.STREAM_RECORDS.getByName(String(shard)) as DurableObjectStub<StreamRecords>
}
