import type { Tenant } from '../../shared/protocol/node.ts'
import { MAX_INT32 } from '../engine/engine-config.ts'
import { type EngineTenant, NO_TENANT } from '../engine/engine-request.ts'

/** A tenant that is forgotten gets another number when it comes back: the engine treats it as a new one. */
const MAX_REMEMBERED = 10_000

/** The numbers by which the engine knows tenants. */
export class TenantNumbers {
  /** The tenant that was used last is the last one. */
  readonly #numbers = new Map<string, number>()
  #last = NO_TENANT.id

  /** Streams without a tenant, of an older edge, count as one tenant together. */
  toEngine(tenant: Tenant | undefined): EngineTenant {
    if (!tenant) return NO_TENANT
    const { id, weight, priority } = tenant
    return { id: this.#numberOf(id), weight, priority }
  }

  #numberOf(id: string): number {
    const number = this.#numbers.get(id) ?? this.#next()
    this.#numbers.delete(id)
    this.#numbers.set(id, number)
    const [oldest] = this.#numbers.keys()
    if (this.#numbers.size > MAX_REMEMBERED && oldest !== undefined) this.#numbers.delete(oldest)
    return number
  }

  #next(): number {
    this.#last = this.#last === MAX_INT32 ? NO_TENANT.id + 1 : this.#last + 1
    return this.#last
  }
}
