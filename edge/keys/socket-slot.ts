import type { Env } from '../env.ts'
import { addressSocketsOf } from './address-sockets.ts'
import { SOCKET_RENEW_MS } from './budget/socket-leases.ts'
import { limitsOf } from './key-limits.ts'

/** A socket's place among the open sockets of its key and of its client's address. */
export interface SocketSlot {
  readonly id: string
  readonly principalId: string
  /** undefined when the address is not known. */
  readonly address: string | undefined
}

/**
 * Keeps the slot until the socket (accepted before) is closed, by either side: a dead peer never answers a close, and
 * would hold its slot until TCP gives up. The worker has taken it.
 */
export function keepSlot(env: Env, slot: SocketSlot, socket: WebSocket): void {
  const renewal = setInterval(() => {
    if (socket.readyState !== WebSocket.READY_STATE_OPEN) return end()
    // The next renewal may succeed.
    for (const holder of holdersOf(env, slot)) holder.renewSocket(slot.id).catch(() => {})
  }, SOCKET_RENEW_MS)
  let kept = true
  const end = () => {
    clearInterval(renewal)
    if (kept) void releaseSlot(env, slot)
    kept = false
  }
  socket.addEventListener('close', end)
  socket.addEventListener('error', end)
}

/** If this fails, the slot is free when its lease ends. */
export async function releaseSlot(env: Env, slot: SocketSlot): Promise<void> {
  await Promise.allSettled(holdersOf(env, slot).map((holder) => holder.releaseSocket(slot.id)))
}

function holdersOf(env: Env, { principalId, address }: SocketSlot) {
  const key = limitsOf(env, principalId)
  return address === undefined ? [key] : [key, addressSocketsOf(env, address)]
}
