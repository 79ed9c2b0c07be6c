import { DurableObject } from 'cloudflare:workers'
import { utf8Length } from '../../shared/utf8.ts'
import type { Env } from '../env.ts'
import type { Principal } from '../keys/principal.ts'
import type { ResponseBody } from '../openai/responses.ts'
import type { AnswerPart } from '../streams/http/single-answer.ts'
import { BackgroundRun, eventsOf, type RunRecord } from './background-run.ts'
import { writeLines } from './event-lines.ts'
import { Recording } from './recording.ts'
import { ResponseTables, type StoredResponse, type StoreLimits } from './response-tables.ts'
import { asQueued, fromStored, itemIds, storedBody } from './stored-form.ts'

const DEFAULT_DAYS = 30
const DAY_MS = 24 * 3_600_000
/** Of one key; `stored_responses` in its limits says otherwise. */
const DEFAULT_RESPONSES = 1_000
export const MAX_STORED_BYTES = 32 * 1024 * 1024
/** A value of SQLite may have 2 MB. */
export const MAX_VALUE_BYTES = 1_900_000
/** What a row counts beside its texts: more than it takes. */
const ROW_BYTES = 512
/** Of one key in the background at the same time. */
export const MAX_RUNNING = 16
/**
 * While an answer runs, an alarm wakes the object this often: should it have lost its memory, it reads the answer again
 * before the session gives it up. Less than the time after which workerd evicts an idle object.
 */
const AWAKE_MS = 8_000
/** What a conversation adds to a request: as much as a body may have. */
export const MAX_CONVERSATION_BYTES = 2 * 1024 * 1024

/** What a request needs of what is stored. */
export interface Conversation {
  /** The items before its own, in order: lists of items, as JSON. */
  readonly before: readonly string[]
  /** The items that it names, by their ids, as JSON; others may be there, too. */
  readonly named: Readonly<Record<string, string>>
}

/** Why there is no conversation: an id that is not found or still runs, or how many bytes it has at least. */
export type NoConversation =
  | { readonly missing: string }
  | { readonly running: string }
  | { readonly tooLong: number }

/** For how many days a response is stored after its last use; 0: none is. */
export function responseDays({ RESPONSE_DAYS }: Env): number {
  const days = Number(RESPONSE_DAYS ?? DEFAULT_DAYS)
  return Number.isFinite(days) && days >= 0 ? days : DEFAULT_DAYS
}

/** What the key may store; `responses` is 0 where it may store none. */
export function storeLimits(env: Env, { limits }: Pick<Principal, 'limits'>): StoreLimits {
  const responses = responseDays(env) === 0 ? 0 : (limits.stored_responses ?? DEFAULT_RESPONSES)
  return { responses, bytes: MAX_STORED_BYTES }
}

/**
 * The stored responses of one key, or of one token's subject: the object's name is the principal's id. So no key can name
 * those of another one, and what a key stores takes room from itself only (docs/adr/0073).
 */
export class ResponseStore extends DurableObject<Env> {
  #open: ResponseTables | undefined
  readonly #runs = new Map<string, BackgroundRun>()

  /**
   * `items`: ids of the output's. Older responses make room, those first that were not used for the longest time.
   * false: it is too long, and not stored.
   */
  async put(response: StoredResponse, items: readonly string[], limits: StoreLimits): Promise<boolean> {
    const isStored = this.#put(response, items, limits)
    await this.#wakeUp()
    return isStored
  }

  /** Runs a response in the background. The reservation is this object's from then on. */
  async start(
    response: StoredResponse,
    run: RunRecord,
    limits: StoreLimits,
  ): Promise<'started' | 'too_many' | 'too_long'> {
    const tables = this.#tables()
    if (this.#runs.size >= MAX_RUNNING) return 'too_many'
    const stored = { ...response, run: JSON.stringify(run) }
    if (!this.#put(stored, [], limits)) return 'too_long'
    this.#run(tables, stored, run, true)
    await this.#wakeUp()
    return 'started'
  }

  /** Ends a response that runs in the background, with what it has. Returns it; undefined: there is none. */
  async cancel(id: string): Promise<StoredResponse | undefined> {
    if (!this.get(id)) return undefined
    await this.#runs.get(id)?.cancel()
    return this.get(id)
  }

  /**
   * The events behind number `after` of a response that runs or has run in the background, until its end: a line of JSON
   * each. undefined: there are none.
   */
  events(id: string, after: number): ReadableStream<Uint8Array> | undefined {
    const stored = this.get(id)
    if (!stored) return undefined
    const events = this.#runs.get(id)?.events() ?? recordedEvents(stored)
    if (!events) return undefined
    const { readable, writable } = new IdentityTransformStream()
    this.ctx.waitUntil(writeLines(events, after, writable))
    return readable
  }

  get(id: string): StoredResponse | undefined {
    return this.#existing?.get(id, Date.now())
  }

  /** false: there is none. */
  async remove(id: string): Promise<boolean> {
    const found = this.get(id) !== undefined
    this.#existing?.delete(id)
    await this.#runs.get(id)?.cancel()
    await this.#giveUpIfEmpty()
    return found
  }

  /** The conversation up to response `previous`, whose responses are kept as long as it now, and single items. */
  conversation(previous: string | undefined, items: readonly string[]): Conversation | NoConversation {
    const tables = this.#existing
    if (!tables) return previous === undefined ? { before: [], named: {} } : { missing: previous }
    const now = Date.now()
    const responses: StoredResponse[] = []
    let bytes = 0
    for (let id = previous; id !== undefined; ) {
      const response = tables.get(id, now)
      if (!response) return { missing: id }
      if (response.run !== undefined) return { running: id }
      responses.unshift(response)
      bytes += utf8Length(response.input) + utf8Length(response.output)
      if (bytes > MAX_CONVERSATION_BYTES) return { tooLong: bytes }
      id = response.previous
    }
    const named: Record<string, string> = {}
    const read = new Set<string>()
    for (const item of items) {
      const id = item in named ? undefined : tables.ofItem(item)
      const output = id === undefined || read.has(id) ? undefined : tables.get(id, now)?.output
      if (id === undefined || output === undefined) continue
      read.add(id)
      bytes += utf8Length(output)
      if (bytes > MAX_CONVERSATION_BYTES) return { tooLong: bytes }
      for (const each of JSON.parse(output)) named[each.id] = JSON.stringify(each)
    }
    for (const { id } of responses) tables.renew(id, this.#expiry())
    return { before: responses.flatMap(({ input, output }) => [input, output]), named }
  }

  override async alarm(): Promise<void> {
    this.#existing?.deleteExpired(Date.now())
    if (!(await this.#giveUpIfEmpty())) await this.#wakeUp()
  }

  #put(response: StoredResponse, items: readonly string[], limits: StoreLimits): boolean {
    const bytes = bytesOf(response, items)
    if (bytes === undefined) return false
    const tables = this.#tables()
    tables.put(response, items, bytes, this.#expiry())
    tables.keepTo(limits)
    return true
  }

  #expiry(): number {
    return Date.now() + responseDays(this.env) * DAY_MS
  }

  /** undefined: nothing was stored yet, or nothing is any more. Reading stores nothing. */
  get #existing(): ResponseTables | undefined {
    return this.#open || ResponseTables.exist(this.ctx.storage.sql) ? this.#tables() : undefined
  }

  #tables(): ResponseTables {
    if (!this.#open) {
      this.#open = new ResponseTables(this.ctx.storage.sql)
      // What ran when the object lost its memory.
      for (const stored of this.#open.running())
        if (!this.#runs.has(stored.id)) this.#run(this.#open, stored, JSON.parse(stored.run ?? '{}'), false)
    }
    return this.#open
  }

  #run(tables: ResponseTables, stored: StoredResponse, record: RunRecord, isNew: boolean): void {
    const { id } = stored
    const { waiting: _, ...lasting } = record
    const first = asQueued(fromStored(stored))
    const setRun = (response: string, record: RunRecord) => {
      const run = JSON.stringify(record)
      tables.setRun(id, run, response, bytesOf({ ...stored, response, run }, []) ?? MAX_VALUE_BYTES)
    }
    const running = new BackgroundRun(this.env, {
      ...{ first, record, isNew },
      onReserved: (waiting) => setRun(stored.response, { ...lasting, waiting }),
      onBegun: (stream) => {
        setRun(storedBody({ ...first, status: 'in_progress' }).response, { ...lasting, stream })
      },
      onEnd: (response, parts) => {
        this.#runs.delete(id)
        this.#endRun(tables, stored, response, parts)
        tables.keepTo(storeLimits(this.env, record.principal))
      },
    })
    this.#runs.set(id, running)
    this.ctx.waitUntil(running.run())
  }

  /** An answer that is too long is not stored; of one whose parts are, the events cannot be read again. */
  #endRun(
    tables: ResponseTables,
    before: StoredResponse,
    ended: ResponseBody,
    parts: readonly AnswerPart[],
  ): void {
    const items = itemIds(ended)
    const withParts = { ...storedBody(ended), parts: JSON.stringify(parts) }
    const { parts: _, ...withoutParts } = withParts
    const ran = { ...before, run: undefined }
    for (const end of [withParts, withoutParts]) {
      const bytes = bytesOf({ ...ran, ...end }, items)
      if (bytes === undefined) continue
      tables.endRun(before.id, end, items, bytes)
      return
    }
    const error = { code: 'internal_error', message: 'the answer is too long to be stored' }
    const failed = storedBody({ ...ended, status: 'failed', output: [], error })
    tables.endRun(before.id, failed, [], bytesOf({ ...ran, ...failed }, []) ?? MAX_VALUE_BYTES)
  }

  /** Sets the alarm. A response that was used after it was set expires later, so it may be early. */
  async #wakeUp(): Promise<void> {
    const next = this.#runs.size > 0 ? Date.now() + AWAKE_MS : this.#existing?.nextExpiry
    const set = await this.ctx.storage.getAlarm()
    if (next !== undefined && (set === null || set > next)) await this.ctx.storage.setAlarm(next)
  }

  /** Deletes the storage with its tables and its alarm, if nothing is stored: SQLite's files do not shrink. */
  async #giveUpIfEmpty(): Promise<boolean> {
    if (this.#existing?.nextExpiry !== undefined) return false
    this.#open = undefined
    await this.ctx.storage.deleteAll()
    return true
  }
}

/** What a response counts in its key's limit; undefined: it is too long to be stored. */
function bytesOf(
  { input, output, response, run = '', parts = '' }: StoredResponse,
  items: readonly string[],
): number | undefined {
  const lengths = [input, output, response, run, parts].map(utf8Length)
  if (Math.max(...lengths) > MAX_VALUE_BYTES) return undefined
  return lengths.reduce((sum, length) => sum + length, ROW_BYTES * (1 + items.length))
}

/** undefined: it has not run in the background, or its parts are not stored. */
function recordedEvents(stored: StoredResponse): AsyncIterable<object> | undefined {
  if (stored.parts === undefined) return undefined
  const ended = fromStored(stored)
  return eventsOf(asQueued(ended), Recording.of(JSON.parse(stored.parts)), () => ended)
}

/** The ResponseStore object of a principal. */
export function responsesOf(env: Env, principalId: string): DurableObjectStub<ResponseStore> {
  return env.RESPONSES.getByName(principalId) as DurableObjectStub<ResponseStore>
}
