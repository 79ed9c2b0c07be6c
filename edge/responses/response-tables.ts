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
  /** What is known of the run, while it runs in the background. */
  readonly run?: string | undefined
  /** The parts of an answer that has run in the background, from which its events are made again. */
  readonly parts?: string | undefined
}

/** Of a response that has run in the background. */
export type RunEnd = Pick<StoredResponse, 'output' | 'response' | 'parts'>

/** How much one key may store: responses, and bytes of all of them together. */
export interface StoreLimits {
  readonly responses: number
  readonly bytes: number
}

type Row = {
  id: string
  previous: string | null
  input: string
  output: string
  response: string
  run: string | null
  parts: string | null
}
const COLUMNS = 'id, previous, input, output, response, run, parts'

/** The tables of a key's responses. Times are in ms since the epoch; what has expired is not found. */
export class ResponseTables {
  readonly #sql: SqlStorage
  /** Of all responses together, also of those that have expired and are not deleted yet. */
  #bytes: number

  static exist(sql: SqlStorage): boolean {
    return sql.exec("SELECT 1 FROM sqlite_master WHERE name = 'response'").toArray().length > 0
  }

  /** Makes the tables where there are none. */
  constructor(sql: SqlStorage) {
    this.#sql = sql
    sql.exec(
      'CREATE TABLE IF NOT EXISTS response (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, previous TEXT, expires_at INTEGER, bytes INTEGER, input TEXT, output TEXT, response TEXT, run TEXT, parts TEXT)',
    )
    sql.exec('CREATE INDEX IF NOT EXISTS by_expiry ON response (expires_at, number)')
    sql.exec('CREATE TABLE IF NOT EXISTS item (id TEXT PRIMARY KEY, response TEXT)')
    sql.exec('CREATE INDEX IF NOT EXISTS by_response ON item (response)')
    this.#bytes = this.#sum('SELECT TOTAL(bytes) AS sum FROM response')
  }

  /** `items`: ids of the output's. */
  put(stored: StoredResponse, items: readonly string[], bytes: number, expiresAt: number): void {
    const { id, previous = null, input, output, response, run = null, parts = null } = stored
    this.#sql.exec(
      `INSERT INTO response (${COLUMNS}, expires_at, bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      ...[id, previous, input, output, response, run, parts, expiresAt, bytes],
    )
    this.#putItems(id, items)
    this.#bytes += bytes
  }

  get(id: string, now: number): StoredResponse | undefined {
    const query = `SELECT ${COLUMNS} FROM response WHERE id = ? AND expires_at > ?`
    return this.#sql.exec<Row>(query, id, now).toArray().map(toStored)[0]
  }

  /** Those that run, or did when the object lost its memory. */
  running(): StoredResponse[] {
    return this.#sql
      .exec<Row>(`SELECT ${COLUMNS} FROM response WHERE run IS NOT NULL`)
      .toArray()
      .map(toStored)
  }

  /** `bytes`: of the whole response from now on. */
  setRun(id: string, run: string, response: string, bytes: number): void {
    if (!this.#setBytes(id, bytes)) return
    this.#sql.exec('UPDATE response SET run = ?, response = ? WHERE id = ?', run, response, id)
  }

  /** `bytes`: as of `setRun`. */
  endRun(id: string, { output, response, parts }: RunEnd, items: readonly string[], bytes: number): void {
    if (!this.#setBytes(id, bytes)) return
    this.#sql.exec(
      'UPDATE response SET run = NULL, output = ?, response = ?, parts = ? WHERE id = ?',
      ...[output, response, parts ?? null, id],
    )
    this.#putItems(id, items)
  }

  /** false: it has been deleted. */
  #setBytes(id: string, bytes: number): boolean {
    const query = 'SELECT bytes FROM response WHERE id = ?'
    const [row] = this.#sql.exec<{ bytes: number }>(query, id).toArray()
    if (!row) return false
    this.#sql.exec('UPDATE response SET bytes = ? WHERE id = ?', bytes, id)
    this.#bytes += bytes - row.bytes
    return true
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
    for (const id of this.#ids('WHERE run IS NULL AND expires_at <= ?', now)) this.delete(id)
  }

  /** Deletes those that were not used for the longest time and do not run, until the others keep to the limits. */
  keepTo({ responses, bytes }: StoreLimits): void {
    const count = this.#sum('SELECT COUNT(*) AS sum FROM response')
    for (const id of this.#ids(
      'WHERE run IS NULL ORDER BY expires_at, number LIMIT ?',
      Math.max(0, count - responses),
    ))
      this.delete(id)
    while (this.#bytes > bytes) {
      const [oldest] = this.#ids('WHERE run IS NULL ORDER BY expires_at, number LIMIT ?', 1)
      if (oldest === undefined) break
      this.delete(oldest)
    }
  }

  /** When the next one expires; undefined if there is none. */
  get nextExpiry(): number | undefined {
    const rows = this.#sql.exec<{ next: number | null }>('SELECT MIN(expires_at) AS next FROM response')
    return rows.one().next ?? undefined
  }

  #putItems(id: string, items: readonly string[]): void {
    for (const item of items)
      this.#sql.exec('INSERT OR REPLACE INTO item (id, response) VALUES (?, ?)', item, id)
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

function toStored({ previous, run, parts, ...row }: Row): StoredResponse {
  return { ...row, previous: previous ?? undefined, run: run ?? undefined, parts: parts ?? undefined }
}
