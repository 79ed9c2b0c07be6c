/** A response with what it was asked, as it is stored: JSON. */
export interface StoredResponse {
  readonly id: string
  /** The response that it continues. */
  readonly previous?: string | undefined
  /** A list of items; those of `previous` and of what came before are stored there. */
  readonly input: string
  /** A list of items. */
  readonly output: string
  /** The response as it is returned, without its output. */
  readonly response: string
}

/** How much one key may store: responses, and bytes of all of them together. */
export interface StoreLimits {
  readonly responses: number
  readonly bytes: number
}

type Row = { id: string; previous: string | null; input: string; output: string; response: string }

/** The tables of a key's responses. Times are in ms since the epoch; what has expired is not found. */
export class ResponseTables {
  readonly #sql: SqlStorage
  /** Of all responses together, also of those that have expired and are not deleted yet. */
  #bytes: number

  constructor(sql: SqlStorage) {
    this.#sql = sql
    sql.exec(
      'CREATE TABLE IF NOT EXISTS response (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, previous TEXT, expires_at INTEGER, bytes INTEGER, input TEXT, output TEXT, response TEXT)',
    )
    sql.exec('CREATE INDEX IF NOT EXISTS by_expiry ON response (expires_at, number)')
    sql.exec('CREATE TABLE IF NOT EXISTS item (id TEXT PRIMARY KEY, response TEXT)')
    sql.exec('CREATE INDEX IF NOT EXISTS by_response ON item (response)')
    this.#bytes = this.#sum('SELECT TOTAL(bytes) AS sum FROM response')
  }

  /** `items`: ids of the output's. */
  put(stored: StoredResponse, items: readonly string[], bytes: number, expiresAt: number): void {
    const { id, previous, input, output, response } = stored
    this.#sql.exec(
      'INSERT INTO response (id, previous, expires_at, bytes, input, output, response) VALUES (?, ?, ?, ?, ?, ?, ?)',
      ...[id, previous ?? null, expiresAt, bytes, input, output, response],
    )
    for (const item of items)
      this.#sql.exec('INSERT OR REPLACE INTO item (id, response) VALUES (?, ?)', item, id)
    this.#bytes += bytes
  }

  get(id: string, now: number): StoredResponse | undefined {
    const rows = this.#sql.exec<Row>(
      'SELECT id, previous, input, output, response FROM response WHERE id = ? AND expires_at > ?',
      ...[id, now],
    )
    const [row] = rows.toArray()
    return row && { ...row, previous: row.previous ?? undefined }
  }

  /** The response whose output has an item. */
  ofItem(item: string): string | undefined {
    const rows = this.#sql.exec<{ response: string }>('SELECT response FROM item WHERE id = ?', item)
    return rows.toArray()[0]?.response
  }

  renew(id: string, expiresAt: number): void {
    this.#sql.exec('UPDATE response SET expires_at = ? WHERE id = ?', expiresAt, id)
  }

  delete(id: string): void {
    const rows = this.#sql.exec<{ bytes: number }>('DELETE FROM response WHERE id = ? RETURNING bytes', id)
    this.#bytes -= rows.toArray()[0]?.bytes ?? 0
    this.#sql.exec('DELETE FROM item WHERE response = ?', id)
  }

  deleteExpired(now: number): void {
    for (const id of this.#ids('WHERE expires_at <= ?', now)) this.delete(id)
  }

  /** Deletes those that were not used for the longest time, until the others keep to the limits. */
  keepTo({ responses, bytes }: StoreLimits): void {
    const count = this.#sum('SELECT COUNT(*) AS sum FROM response')
    for (const id of this.#ids('ORDER BY expires_at, number LIMIT ?', Math.max(0, count - responses)))
      this.delete(id)
    while (this.#bytes > bytes) {
      const [oldest] = this.#ids('ORDER BY expires_at, number LIMIT ?', 1)
      if (oldest === undefined) break
      this.delete(oldest)
    }
  }

  /** When the next one expires; undefined if there is none. */
  get nextExpiry(): number | undefined {
    const rows = this.#sql.exec<{ next: number | null }>('SELECT MIN(expires_at) AS next FROM response')
    return rows.one().next ?? undefined
  }

  #ids(where: string, value: number): string[] {
    return this.#sql
      .exec<{ id: string }>(`SELECT id FROM response ${where}`, value)
      .toArray()
      .map(({ id }) => id)
  }

  #sum(query: string): number {
    return this.#sql.exec<{ sum: number }>(query).one().sum
  }
}
