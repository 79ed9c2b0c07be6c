import { expect, it } from 'vitest'
import { SOCKET_LEASE_MS, SocketLeases, socketsOf } from '../../edge/keys/budget/socket-leases.ts'

const START = Date.UTC(2026, 10, 23, 12)
const HOUR = 3_600_000

it('gives as many as the limit, and one again for each that is released', () => {
  const leases = new SocketLeases()
  expect(['a', 'b', 'c'].map((id) => leases.take(id, 2, START))).toEqual([true, true, false])
  leases.release('a')
  leases.release('unknown')
  expect(leases.take('c', 2, START)).toBe(true)
  expect(leases.take('d', 2, START)).toBe(false)
})

it('ends a lease that is not renewed', () => {
  const leases = new SocketLeases()
  leases.take('dead', 2, START)
  leases.take('alive', 2, START)
  leases.renew('alive', START + SOCKET_LEASE_MS - 1)
  expect(leases.take('early', 2, START + SOCKET_LEASE_MS - 1)).toBe(false)
  expect(leases.take('next', 2, START + SOCKET_LEASE_MS)).toBe(true)
  expect(leases.take('over', 2, START + SOCKET_LEASE_MS)).toBe(false)
})

it('gets its leases back by renewals when they were lost', () => {
  const leases = new SocketLeases()
  leases.renew('a', START)
  expect(leases.take('b', 1, START)).toBe(false)
})

it.each([-HOUR, HOUR])('leaks no slot when the clock jumps by %i ms', (jump) => {
  const leases = new SocketLeases()
  leases.take('dead', 1, START)
  const now = START + jump
  expect(leases.take('next', 1, now)).toBe(true)
  expect(leases.take('over', 1, now)).toBe(false)
  expect(leases.take('after', 1, now + SOCKET_LEASE_MS)).toBe(true)
})

it('allows each concurrent stream of a key a socket, unless the key says otherwise', () => {
  expect(socketsOf({})).toBe(512)
  expect(socketsOf({ concurrent_streams: 5 })).toBe(512)
  expect(socketsOf({ concurrent_streams: 5_000 })).toBe(5_000)
  expect(socketsOf({ concurrent_streams: 5_000, concurrent_sockets: 3 })).toBe(3)
})
