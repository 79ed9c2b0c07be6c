import { DurableObject } from 'cloudflare:workers'
import type { Env } from '../env.ts'
import { SocketLeases } from './budget/socket-leases.ts'

/** Sockets from one address, unless `MAX_SOCKETS_PER_ADDRESS` says otherwise. */
const DEFAULT_SOCKETS = 2_000

/**
 * Counts the open sockets of one client address. Asked only for handshakes with a good credential, while the key's
 * KeyLimits is asked too. Stores nothing.
 */
export class AddressSockets extends DurableObject<Env> {
  readonly #leases = new SocketLeases()

  /** False when the address has as many open sockets as it may have. */
  takeSocket(id: string): boolean {
    const limit = Number(this.env.MAX_SOCKETS_PER_ADDRESS) || DEFAULT_SOCKETS
    return this.#leases.take(id, limit, Date.now())
  }

  renewSocket(id: string): void {
    this.#leases.renew(id, Date.now())
  }

  releaseSocket(id: string): void {
    this.#leases.release(id)
  }
}

export function addressSocketsOf(env: Env, address: string): DurableObjectStub<AddressSockets> {
  return env.ADDRESS_SOCKETS.getByName(address) as DurableObjectStub<AddressSockets>
}
