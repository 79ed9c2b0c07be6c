import { DurableObject } from 'cloudflare:workers'
import type { ApiKeyRecord, Limits } from '../../shared/api-keys.ts'
import type { Env } from '../env.ts'
import {
  dayOf,
  KeyBudget,
  type RateStatus,
  type ReservationRequest,
  type ReservationResult,
} from './budget/key-budget.ts'
import { SocketLeases, socketsOf } from './budget/socket-leases.ts'
import { type DayUsage, type Spent, UsageLog } from './budget/usage-log.ts'
import { WriteWatch } from './budget/write-watch.ts'
import { configuredKeys } from './configured-keys.ts'
import { type Credential, sha256, toHex } from './credentials.ts'
import { isSecretOf } from './key-secrets.ts'
import { keyStoreOf } from './key-store.ts'
import { type BadCredential, keyIdOf, mayRun, type Principal, principalOf } from './principal.ts'

/** Counts are written this long after a change: sooner than an idle object is evicted. */
const PERSIST_AFTER_MS = 1000
/** The same after a write has failed: each failure aborts the object. */
const PERSIST_AGAIN_MS = 10_000
/** What is stored and not needed any more is deleted within this time. */
const CLEAN_MS = 24 * 3_600_000
export const TICKET_MS = 60_000
/** By how much the clocks of two machines differ on which the object may run one after the other. */
const CLOCK_TOLERANCE_MS = 5_000

export interface Authorization {
  readonly principal: Principal
  /** 0 when one request was taken from the rate limit, else the time until there is one again. */
  readonly retryAfterMs: number
  readonly rates: RateStatus
  /** Of the reservation; undefined when none was wanted, when the key may not use the models, or when `retryAfterMs` is not 0. */
  readonly result?: ReservationResult | undefined
  /** The key has as many open sockets as it may have. */
  readonly socketRefused?: boolean | undefined
}

export type AuthorizationResult = { readonly bad: BadCredential } | Authorization

interface ReservationAnswer {
  readonly result: ReservationResult
  readonly rates: RateStatus
}

/** A reservation request, and the models that it is for. */
export interface ModelReservationRequest {
  readonly models: readonly string[]
  readonly request: ReservationRequest
  /** The call has fields that are not known: a key that may not send them reserves nothing. */
  readonly unknownFields?: boolean
}

interface Ticket {
  readonly expiresAt: number
  /** Of a key only the id, since its record is read again at use. A token's principal cannot be looked up later. */
  readonly holder: { readonly keyId: string } | { readonly principal: Principal }
}

/**
 * Checks the credentials and keeps the limits of one API key, or of one token's subject. The object's name is the
 * principal's id. There is one object per key and it is single-threaded, so its limits are exact.
 */
export class KeyLimits extends DurableObject<Env> {
  readonly #budget: KeyBudget
  readonly #usage: UsageLog
  readonly #sockets = new SocketLeases()
  /** The key's record as KeyStore has it; null before it was read. */
  #record: ApiKeyRecord | undefined | null = null
  #persisting = false
  /** Whether what this object stores can be written. */
  readonly #writes: WriteWatch

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env)
    this.#budget = new KeyBudget(ctx.storage.kv.get('budget'))
    this.#usage = new UsageLog(ctx.storage.sql)
    this.#writes = new WriteWatch(ctx.id.toString())
  }

  /**
   * Checks a credential and takes one request from the rate limit. Then makes the `wanted` reservation, if the key may
   * use its models, and takes the slot of `socket`, a socket's id.
   */
  async authorize(
    credential: Credential,
    wanted?: ModelReservationRequest,
    socket?: string,
  ): Promise<AuthorizationResult> {
    const principal = await this.#authenticate(credential)
    if (typeof principal === 'string') return { bad: principal }
    const now = Date.now()
    const taken = this.#budget.takeRequest(principal.limits, now)
    if (taken?.allowed !== false) {
      this.#usage.add(dayOf(now), { requests: 1 })
      this.#persistSoon()
    }
    const retryAfterMs = taken?.retryAfterMs ?? 0
    if (retryAfterMs === 0 && wanted && mayRun(principal, wanted)) {
      const reservation = this.#reserve(principal.limits, wanted.request)
      await this.#ensureStored(principal.limits)
      return { principal, retryAfterMs, ...reservation }
    }
    const rates = this.#budget.rates(principal.limits, now)
    await this.#ensureStored(principal.limits)
    if (retryAfterMs > 0 || socket === undefined) return { principal, retryAfterMs, rates }
    const socketRefused = !this.#sockets.take(socket, socketsOf(principal.limits), now)
    return { principal, retryAfterMs, rates, socketRefused }
  }

  renewSocket(id: string): void {
    this.#sockets.renew(id, Date.now())
  }

  releaseSocket(id: string): void {
    this.#sockets.release(id)
  }

  /** Reserves all stream slots and tokens, or nothing. The caller then has to `renew` and in the end `settle` it. */
  async reserve(limits: Limits, request: ReservationRequest): Promise<ReservationAnswer> {
    const answer = this.#reserve(limits, request)
    await this.#ensureStored(limits)
    return answer
  }

  #reserve(limits: Limits, request: ReservationRequest): ReservationAnswer {
    const now = Date.now()
    const result = this.#budget.reserve(limits, request, now)
    if (result.granted) this.#persistSoon()
    return { result, rates: this.#budget.rates(limits, now) }
  }

  /** False when the reservation has expired. `used`: tokens so far. */
  renew(id: string, used: number): boolean {
    this.#persistSoon()
    return this.#budget.renew(id, used, Date.now())
  }

  settle(limits: Limits, id: string, spent: Omit<Spent, 'requests'>): void {
    const now = Date.now()
    this.#budget.settle(limits, id, spent.prompt_tokens + spent.completion_tokens, now)
    this.#usage.add(dayOf(now), spent)
    this.#persistSoon()
  }

  usage(limits: Limits, first: string, last: string) {
    const totals = this.#budget.totals(limits, Date.now())
    const days: DayUsage[] = this.#usage.days(first, last)
    return { totals, days }
  }

  /** A ticket opens one stream within a minute. */
  async createTicket(principal: Principal): Promise<string> {
    const { kv } = this.ctx.storage
    const now = Date.now()
    this.#deleteOldTickets(now)
    await this.#cleanLater()
    const ticket = toHex(crypto.getRandomValues(new Uint8Array(24)))
    const keyId = keyIdOf(principal)
    const holder = keyId === undefined ? { principal } : { keyId }
    kv.put(await ticketName(ticket), { expiresAt: now + TICKET_MS, holder } satisfies Ticket)
    return ticket
  }

  /** Deletes what is not needed any more. A key that was not used for long then has nothing stored. */
  override async alarm(): Promise<void> {
    const now = Date.now()
    this.#deleteOldTickets(now)
    this.#usage.forget(now)
    const { storage } = this.ctx
    if (this.#budget.isIdle(now)) storage.kv.delete('budget')
    const nothingLeft = [...storage.kv.list({ limit: 1 })].length === 0 && this.#usage.isEmpty()
    if (nothingLeft) await storage.deleteAll()
    else await storage.setAlarm(now + CLEAN_MS)
  }

  /** Called by KeyStore when it has changed the key's record. */
  changed(record: ApiKeyRecord): void {
    this.#record = record
  }

  async #authenticate(credential: Credential): Promise<Principal | BadCredential> {
    if ('principal' in credential) return this.#recheck(credential.principal)
    if ('secret' in credential) {
      const record = await this.#load(credential.keyId)
      const now = Date.now() / 1000
      const good = await isSecretOf(record, credential.secret, now)
      return record && good ? principalIfActive(record, now) : 'unknown'
    }
    const name = await ticketName(credential.ticket)
    const { kv } = this.ctx.storage
    const ticket = kv.get<Ticket>(name)
    // `delete` is true for one caller only, so a ticket is used once.
    if (!ticket || !kv.delete(name)) return 'unknown'
    if (isOver(ticket.expiresAt, Date.now())) return 'expired'
    if ('principal' in ticket.holder) return ticket.holder.principal
    return this.#principalOfKey(ticket.holder.keyId)
  }

  /** Checks a principal of an earlier request again: its key may have changed, or its token expired. */
  async #recheck(principal: Principal): Promise<Principal | BadCredential> {
    const keyId = keyIdOf(principal)
    if (keyId !== undefined) return this.#principalOfKey(keyId)
    const { expiresAt = Number.POSITIVE_INFINITY } = principal
    return expiresAt * 1000 > Date.now() ? principal : 'expired'
  }

  async #principalOfKey(keyId: string): Promise<Principal | BadCredential> {
    const record = await this.#load(keyId)
    return record ? principalIfActive(record, Date.now() / 1000) : 'unknown'
  }

  async #load(keyId: string): Promise<ApiKeyRecord | undefined> {
    if (this.#record === null) {
      // A configured key needs no storage.
      const configured = configuredKeys(this.env.API_KEYS).get(keyId)
      const found = configured ?? (await keyStoreOf(this.env).get(keyId))
      // `changed` may have been called meanwhile: its record is newer.
      if (this.#record === null) this.#record = found
    }
    return this.#record
  }

  /** One write for a burst of requests. A crash within the delay loses the counts of that burst, nothing more. */
  #persistSoon(): void {
    if (this.#persisting) return
    this.#persisting = true
    const persist = async () => {
      this.#persisting = false
      await this.#persist()
    }
    setTimeout(
      () => this.ctx.waitUntil(persist()),
      this.#writes.failedLately ? PERSIST_AGAIN_MS : PERSIST_AFTER_MS,
    )
  }

  async #persist(): Promise<void> {
    await this.#writes.write(this.ctx.storage, async () => {
      await this.#cleanLater()
      this.ctx.storage.kv.put('budget', this.#budget.state())
      this.#usage.write()
    })
  }

  /**
   * When writes have failed lately, what a key with limits takes is stored before it gets it: a failed write would give
   * it back. A key without limits goes on, only its usage is not counted. @throws the error of the storage.
   */
  async #ensureStored(limits: Limits): Promise<void> {
    const limited = Object.values(limits).some((limit) => limit !== undefined)
    if (limited && this.#writes.failedLately) await this.#persist()
  }

  async #cleanLater(): Promise<void> {
    const { storage } = this.ctx
    if ((await storage.getAlarm()) === null) await storage.setAlarm(Date.now() + CLEAN_MS)
  }

  #deleteOldTickets(now: number): void {
    const { kv } = this.ctx.storage
    for (const [name, { expiresAt }] of kv.list<Ticket>({ prefix: 'ticket:' })) {
      if (isOver(expiresAt, now)) kv.delete(name)
    }
  }
}

/** Also when the clock was set back since the ticket was made: it must not become valid for longer. */
function isOver(ticketExpiresAt: number, now: number): boolean {
  return ticketExpiresAt <= now || ticketExpiresAt > now + TICKET_MS + CLOCK_TOLERANCE_MS
}

function principalIfActive(record: ApiKeyRecord, now: number): Principal | BadCredential {
  if (record.revoked_at !== null) return 'revoked'
  if (record.expires_at !== null && record.expires_at <= now) return 'expired'
  return principalOf(record)
}

async function ticketName(ticket: string): Promise<string> {
  return `ticket:${toHex(new Uint8Array(await sha256(ticket)))}`
}

/** The KeyLimits object of a principal. */
export function limitsOf(env: Env, principalId: string): DurableObjectStub<KeyLimits> {
  return env.KEY_LIMITS.getByName(principalId) as DurableObjectStub<KeyLimits>
}
