import { DurableObject } from 'cloudflare:workers'
import { utf8Length } from '../../shared/utf8.ts'
import type { Env } from '../env.ts'
import type { Principal } from '../keys/principal.ts'
import { ResponseTables, type StoredResponse, type StoreLimits } from './response-tables.ts'

const DEFAULT_DAYS = 30
const DAY_MS = 24 * 3_600_000
/** Of one key; `stored_responses` in its limits says otherwise. */
const DEFAULT_RESPONSES = 1_000
export const MAX_STORED_BYTES = 32 * 1024 * 1024
/** A value of SQLite may have 2 MB. */
export const MAX_VALUE_BYTES = 1_900_000
/** What a row counts beside its texts: more than it takes. */
const ROW_BYTES = 512
/** What a conversation adds to a request: as much as a body may have. */
export const MAX_CONVERSATION_BYTES = 2 * 1024 * 1024

/** What a request needs of what is stored. */
export interface Conversation {
  /** The items before its own, in order: lists of items, as JSON. */
  readonly before: readonly string[]
  /** The items that it names, by their ids, as JSON; others may be there, too. */
  readonly named: Readonly<Record<string, string>>
}

/** Why there is no conversation: an id that is not found, or how many bytes it has at least. */
export type NoConversation = { readonly missing: string } | { readonly tooLong: number }

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

  /**
   * `items`: ids of the output's. Older responses make room, those first that were not used for the longest time.
   * false: it is too long, and not stored.
   */
  async put(response: StoredResponse, items: readonly string[], limits: StoreLimits): Promise<boolean> {
    const lengths = [response.input, response.output, response.response].map(utf8Length)
    if (Math.max(...lengths) > MAX_VALUE_BYTES) return false
    const bytes = lengths.reduce((sum, length) => sum + length, ROW_BYTES * (1 + items.length))
    const tables = this.#tables()
    tables.put(response, items, bytes, this.#expiry())
    tables.keepTo(limits)
    await this.#wakeUp()
    return true
  }

  get(id: string): StoredResponse | undefined {
    return this.#tables().get(id, Date.now())
  }

  /** false: there is none. */
  async remove(id: string): Promise<boolean> {
    const found = this.#tables().get(id, Date.now()) !== undefined
    this.#tables().delete(id)
    await this.#giveUpIfEmpty()
    return found
  }

  /** The conversation up to response `previous`, whose responses are kept as long as it now, and single items. */
  conversation(previous: string | undefined, items: readonly string[]): Conversation | NoConversation {
    const tables = this.#tables()
    const now = Date.now()
    const responses: StoredResponse[] = []
    let bytes = 0
    for (let id = previous; id !== undefined; ) {
      const response = tables.get(id, now)
      if (!response) return { missing: id }
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
    this.#tables().deleteExpired(Date.now())
    if (!(await this.#giveUpIfEmpty())) await this.#wakeUp()
  }

  #expiry(): number {
    return Date.now() + responseDays(this.env) * DAY_MS
  }

  #tables(): ResponseTables {
    this.#open ??= new ResponseTables(this.ctx.storage.sql)
    return this.#open
  }

  /** Sets the alarm, if there is none: a response that was used meanwhile expires later, so an alarm may be early. */
  async #wakeUp(): Promise<void> {
    const next = this.#tables().nextExpiry
    if (next === undefined || (await this.ctx.storage.getAlarm()) !== null) return
    await this.ctx.storage.setAlarm(next)
  }

  /** Deletes the storage with its tables and its alarm, if nothing is stored: SQLite's files do not shrink. */
  async #giveUpIfEmpty(): Promise<boolean> {
    if (this.#tables().nextExpiry !== undefined) return false
    this.#open = undefined
    await this.ctx.storage.deleteAll()
    return true
  }
}

/** The ResponseStore object of a principal. */
export function responsesOf(env: Env, principalId: string): DurableObjectStub<ResponseStore> {
  return env.RESPONSES.getByName(principalId) as DurableObjectStub<ResponseStore>
}
