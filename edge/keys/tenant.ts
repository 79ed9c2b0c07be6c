import type { Tenant } from '../../shared/protocol/node.ts'
import type { Principal } from './principal.ts'

/** Hex digits of the hash: two of a million principals share them with a probability below 10^-7. */
const ID_DIGITS = 16

/**
 * What gpu nodes learn about a principal: not its name, but a hash by which they tell its streams from others'.
 * A principal from before weights and priorities were known has none.
 */
export async function tenantOf({ id, weight = 1, priority = 0 }: Principal): Promise<Tenant> {
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(id))
  const hex = Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('')
  return { id: hex.slice(0, ID_DIGITS), weight, priority }
}
