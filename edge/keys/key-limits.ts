import { DurableObject } from 'cloudflare:workers'
import type { ApiKeyRecord, Limits } from '../../shared/api-keys.ts'
import type { Env } from '../env.ts'
import { type Ask, dayOf, KeyBudget, type RateStatus, type Reserved } from './budget/key-budget.ts'
import { type DayUsage, type Spent, UsageLog } from './budget/usage-log.ts'
import { type Credential, sha256, toHex } from './credentials.ts'
import { isSecretOf } from './key-secrets.ts'
import { keyStoreOf } from './key-store.ts'
import { type BadCredential, keyIdOf, mayRun, type Principal, principalOf } from './principal.ts'

/** How long a burst may go on before its count is written down: less than it takes to evict an idle object. */
const PERSIST_AFTER_MS = 1000
export const TICKET_MS = 60_000

export type Entered =
  | { readonly bad: BadCredential }
  | {
      readonly principal: Principal
      readonly retryAfterMs: number
      readonly rates: RateStatus
      /** undefined when nothing was wanted, or when the key may not run it, or not now. */
      readonly reserved?: Reserved | undefined
    }

/** What a request would run, and what it needs for that. */
export interface Wanted {
  readonly models: readonly string[]
  readonly ask: Ask
}

interface Ticket {
  readonly expiresAt: number
  /** A key's ticket is worth what the key is worth when it is used; a token is not seen again. */
  readonly holder: { readonly keyId: string } | { readonly principal: Principal }
}

/**
 * The credential and the limits of one API key, or of one token's subject; its name is the principal's id. One thread
 * decides, so a limit holds exactly.
 */
export class KeyLimits extends DurableObject<Env> {
  readonly #budget: KeyBudget
  readonly #usage: UsageLog
  /** null: not looked up yet. */
  #record: ApiKeyRecord | undefined | null = null
  #persisting = false

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env)
    this.#budget = new KeyBudget(ctx.storage.kv.get('budget'))
    this.#usage = new UsageLog(ctx.storage.sql)
  }

  /**
   * Checks a credential and takes one request; `retryAfterMs` is 0 when there was one to take. Then `reserve`s what is
   * wanted, if the key may run it.
   */
  async enter(credential: Credential, wanted?: Wanted): Promise<Entered> {
    const principal = await this.#identify(credential)
    if (typeof principal === 'string') return { bad: principal }
    const now = Date.now()
    const taken = this.#budget.enter(principal.limits, now)
    if (taken?.allowed !== false) {
      this.#usage.add(dayOf(now), { requests: 1 })
      this.#persistSoon()
    }
    const retryAfterMs = taken?.retryAfterMs ?? 0
    if (retryAfterMs === 0 && wanted && mayRun(principal, wanted.models))
      return { principal, retryAfterMs, ...this.reserve(principal.limits, wanted.ask) }
    return { principal, retryAfterMs, rates: this.#budget.rates(principal.limits, now) }
  }

  /** Takes slots and tokens for a request, or nothing. Its lease wants to be renewed, and settled at the end. */
  reserve(limits: Limits, ask: Ask): { reserved: Reserved; rates: RateStatus } {
    const now = Date.now()
    const reserved = this.#budget.reserve(limits, ask, now)
    if (reserved.granted) this.#persistSoon()
    return { reserved, rates: this.#budget.rates(limits, now) }
  }

  /** False when the lease has run out. */
  renew(lease: string, used: number): boolean {
    this.#persistSoon()
    return this.#budget.renew(lease, used, Date.now())
  }

  settle(limits: Limits, lease: string, spent: Omit<Spent, 'requests'>): void {
    const now = Date.now()
    this.#budget.settle(limits, lease, spent.prompt_tokens + spent.completion_tokens, now)
    this.#usage.add(dayOf(now), spent)
    this.#persistSoon()
  }

  usage(limits: Limits, first: string, last: string) {
    const totals = this.#budget.totals(limits, Date.now())
    const days: DayUsage[] = this.#usage.days(first, last)
    return { totals, days }
  }

  /** Something that opens one stream within a minute, once. */
  async createTicket(principal: Principal): Promise<string> {
    const { kv } = this.ctx.storage
    const now = Date.now()
    for (const [name, { expiresAt }] of kv.list<Ticket>({ prefix: 'ticket:' })) {
      if (expiresAt <= now) kv.delete(name)
    }
    const ticket = toHex(crypto.getRandomValues(new Uint8Array(24)))
    const keyId = keyIdOf(principal)
    const holder = keyId === undefined ? { principal } : { keyId }
    kv.put(await ticketName(ticket), { expiresAt: now + TICKET_MS, holder } satisfies Ticket)
    return ticket
  }

  /** The KeyStore says what the key is from now on. */
  changed(record: ApiKeyRecord): void {
    this.#record = record
  }

  async #identify(credential: Credential): Promise<Principal | BadCredential> {
    if ('principal' in credential) return this.#standing(credential.principal)
    if ('secret' in credential) {
      const record = await this.#load(credential.keyId)
      const now = Date.now() / 1000
      const good = await isSecretOf(record, credential.secret, now)
      return record && good ? standing(record, now) : 'unknown'
    }
    const name = await ticketName(credential.ticket)
    const { kv } = this.ctx.storage
    const ticket = kv.get<Ticket>(name)
    // Whoever deletes it has it: no second caller gets past here.
    if (!ticket || !kv.delete(name)) return 'unknown'
    if (ticket.expiresAt <= Date.now()) return 'expired'
    if ('principal' in ticket.holder) return ticket.holder.principal
    return this.#standingOfKey(ticket.holder.keyId)
  }

  /** Who was let in before, as things are now. */
  async #standing(principal: Principal): Promise<Principal | BadCredential> {
    const keyId = keyIdOf(principal)
    if (keyId !== undefined) return this.#standingOfKey(keyId)
    const { expiresAt = Number.POSITIVE_INFINITY } = principal
    return expiresAt * 1000 > Date.now() ? principal : 'expired'
  }

  async #standingOfKey(keyId: string): Promise<Principal | BadCredential> {
    const record = await this.#load(keyId)
    return record ? standing(record, Date.now() / 1000) : 'unknown'
  }

  async #load(keyId: string): Promise<ApiKeyRecord | undefined> {
    if (this.#record === null) {
      const found = await keyStoreOf(this.env).get(keyId)
      // A change that came meanwhile is newer than what was read.
      if (this.#record === null) this.#record = found
    }
    return this.#record
  }

  /** One write for a burst of requests. A crash within the delay gives the key that burst again, nothing more. */
  #persistSoon(): void {
    if (this.#persisting) return
    this.#persisting = true
    setTimeout(() => {
      this.#persisting = false
      this.ctx.storage.kv.put('budget', this.#budget.state())
      this.#usage.write()
    }, PERSIST_AFTER_MS)
  }
}

function standing(record: ApiKeyRecord, now: number): Principal | BadCredential {
  if (record.revoked_at !== null) return 'revoked'
  if (record.expires_at !== null && record.expires_at <= now) return 'expired'
  return principalOf(record)
}

async function ticketName(ticket: string): Promise<string> {
  return `ticket:${toHex(new Uint8Array(await sha256(ticket)))}`
}

/** The object that keeps a principal's limits. */
export function limitsOf(env: Env, principalId: string): DurableObjectStub<KeyLimits> {
  return env.KEY_LIMITS.getByName(principalId) as DurableObjectStub<KeyLimits>
}
