import { DurableObject } from 'cloudflare:workers'
import type { Feedback, FeedbackRecord } from '../../shared/feedback.ts'
import type { Env } from '../env.ts'

/** The oldest go when there are more: of one key, and of all. */
export const MAX_OF_OWNER = 1_000
export const MAX_OF_ALL = 10_000
/** All are counted once in so many votes: counting reads every row. */
const COUNT_EVERY = 64
const DEFAULT_DAYS = 90
const DAY_MS = 24 * 3_600_000
/** A page crosses to the worker in one message, of at most 32 MiB. */
export const PAGE_ROWS = 100

type Row = { number: number; owner: string; id: string; created_at: number; record: string }

/** For how many days feedback is kept; 0: none is taken. */
export function feedbackDays({ FEEDBACK_DAYS }: Env): number {
  const days = Number(FEEDBACK_DAYS ?? DEFAULT_DAYS)
  return Number.isFinite(days) && days >= 0 ? days : DEFAULT_DAYS
}

/** The votes of users, for as long as the operator keeps them. */
export class FeedbackStore extends DurableObject<Env> {
  #ready = false

  /** Replaces what the owner has said of the same answer before. */
  async put(owner: string, { id, ...feedback }: Feedback): Promise<void> {
    await this.#prepare()
    const { sql } = this.ctx.storage
    sql.exec('DELETE FROM feedback WHERE owner = ? AND id = ?', owner, id)
    const { number } = sql
      .exec<{ number: number }>(
        'INSERT INTO feedback (owner, id, created_at, record) VALUES (?, ?, ?, ?) RETURNING number',
        ...[owner, id, Math.floor(Date.now() / 1000), JSON.stringify(feedback)],
      )
      .one()
    sql.exec(
      'DELETE FROM feedback WHERE number IN (SELECT number FROM feedback WHERE owner = ? ORDER BY number DESC LIMIT -1 OFFSET ?)',
      ...[owner, MAX_OF_OWNER],
    )
    if (number % COUNT_EVERY === 0) this.#limitAll()
  }

  async withdraw(owner: string, id: string): Promise<void> {
    await this.#prepare()
    this.ctx.storage.sql.exec('DELETE FROM feedback WHERE owner = ? AND id = ?', owner, id)
  }

  async withdrawAll(owner: string): Promise<void> {
    await this.#prepare()
    this.ctx.storage.sql.exec('DELETE FROM feedback WHERE owner = ?', owner)
  }

  /** The first ones behind number `after`. */
  async page(after: number): Promise<FeedbackRecord[]> {
    await this.#prepare()
    const rows = this.ctx.storage.sql.exec<Row>(
      'SELECT * FROM feedback WHERE number > ? AND created_at > ? ORDER BY number LIMIT ?',
      ...[after, this.#oldest(), PAGE_ROWS],
    )
    return rows
      .toArray()
      .map(({ record, ...row }) => ({ ...row, ...(JSON.parse(record) as Omit<Feedback, 'id'>) }))
  }

  override async alarm(): Promise<void> {
    await this.#prepare()
    this.ctx.storage.sql.exec('DELETE FROM feedback WHERE created_at <= ?', this.#oldest())
    this.#limitAll()
    await this.ctx.storage.setAlarm(Date.now() + DAY_MS)
  }

  #limitAll(): void {
    this.ctx.storage.sql.exec(
      'DELETE FROM feedback WHERE number <= (SELECT number FROM feedback ORDER BY number DESC LIMIT 1 OFFSET ?)',
      MAX_OF_ALL,
    )
  }

  /** Unix seconds: what is from then or before has passed its time. */
  #oldest(): number {
    return Math.floor((Date.now() - feedbackDays(this.env) * DAY_MS) / 1000)
  }

  async #prepare(): Promise<void> {
    if (this.#ready) return
    this.ctx.storage.sql.exec(
      'CREATE TABLE IF NOT EXISTS feedback (number INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT, id TEXT, created_at INTEGER, record TEXT, UNIQUE (owner, id))',
    )
    this.#ready = true
    if ((await this.ctx.storage.getAlarm()) === null) await this.ctx.storage.setAlarm(Date.now() + DAY_MS)
  }
}

/** The one object with all feedback: votes are as rare as the people who give them. */
export function feedbackOf(env: Env): DurableObjectStub<FeedbackStore> {
  return env.FEEDBACK.getByName('feedback') as DurableObjectStub<FeedbackStore>
}
