/** What a key used on one day. */
export interface DayUsage {
  /** `2026-11-23`, in UTC. */
  readonly day: string
  /** Requests that passed the rate limit, whatever became of them. */
  readonly requests: number
  readonly prompt_tokens: number
  /** Prompt tokens that were found in a prefix cache; included in `prompt_tokens`. */
  readonly cached_prompt_tokens: number
  readonly completion_tokens: number
}

export type Spent = Omit<DayUsage, 'day'>

/** How long a day's usage is kept: so that a year can be compared with the one before. */
const KEEP_DAYS = 400

type Row = Record<string, string | number> & DayUsage

/** A key's usage per day. Kept in memory until {@link UsageLog.write}. */
export class UsageLog {
  readonly #sql: SqlStorage
  readonly #pending = new Map<string, Spent>()

  constructor(sql: SqlStorage) {
    this.#sql = sql
  }

  add(day: string, spent: Partial<Spent>): void {
    this.#pending.set(day, sum(this.#pending.get(day) ?? NOTHING, spent))
  }

  write(): void {
    if (this.#pending.size === 0) return
    // Not in the constructor: an object for a key that was never used must not use storage.
    this.#sql.exec(`CREATE TABLE IF NOT EXISTS usage (day TEXT PRIMARY KEY, requests INTEGER,
      prompt_tokens INTEGER, cached_prompt_tokens INTEGER, completion_tokens INTEGER) WITHOUT ROWID`)
    for (const [day, spent] of this.#pending) {
      this.#sql.exec(
        `INSERT INTO usage VALUES (?, ?, ?, ?, ?) ON CONFLICT (day) DO UPDATE SET
          requests = requests + excluded.requests,
          prompt_tokens = prompt_tokens + excluded.prompt_tokens,
          cached_prompt_tokens = cached_prompt_tokens + excluded.cached_prompt_tokens,
          completion_tokens = completion_tokens + excluded.completion_tokens`,
        day,
        spent.requests,
        spent.prompt_tokens,
        spent.cached_prompt_tokens,
        spent.completion_tokens,
      )
    }
    this.#pending.clear()
  }

  /** From `first` to `last`, both included; days without usage are left out. */
  days(first: string, last: string): DayUsage[] {
    this.write()
    if (this.isEmpty()) return []
    return this.#sql
      .exec<Row>('SELECT * FROM usage WHERE day BETWEEN ? AND ? ORDER BY day', first, last)
      .toArray()
  }

  /** Deletes the days that are older than {@link KEEP_DAYS}. */
  forget(now: number): void {
    if (!this.#hasTable()) return
    const oldest = new Date(now - KEEP_DAYS * 86_400_000).toISOString().slice(0, 10)
    this.#sql.exec('DELETE FROM usage WHERE day < ?', oldest)
  }

  /** No usage is stored or waits to be. */
  isEmpty(): boolean {
    if (this.#pending.size > 0) return false
    return !this.#hasTable() || this.#sql.exec('SELECT 1 FROM usage LIMIT 1').toArray().length === 0
  }

  #hasTable(): boolean {
    return this.#sql.exec("SELECT 1 FROM sqlite_master WHERE name = 'usage'").toArray().length > 0
  }
}

const NOTHING: Spent = { requests: 0, prompt_tokens: 0, cached_prompt_tokens: 0, completion_tokens: 0 }

function sum(a: Spent, b: Partial<Spent>): Spent {
  return {
    requests: a.requests + (b.requests ?? 0),
    prompt_tokens: a.prompt_tokens + (b.prompt_tokens ?? 0),
    cached_prompt_tokens: a.cached_prompt_tokens + (b.cached_prompt_tokens ?? 0),
    completion_tokens: a.completion_tokens + (b.completion_tokens ?? 0),
  }
}
