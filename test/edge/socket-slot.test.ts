import { env } from 'cloudflare:test'
import { afterEach, expect, it, vi } from 'vitest'
import type { Env } from '../../edge/env.ts'
import { SOCKET_RENEW_MS } from '../../edge/keys/budget/socket-leases.ts'
import { keepSlot } from '../../edge/keys/socket-slot.ts'

afterEach(() => {
  vi.useRealTimers()
})

it('the slot of a socket that the edge has closed is free, although its peer never answers', () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
  const calls: string[] = []
  const holder = {
    renewSocket: async () => void calls.push('renewed'),
    releaseSocket: async () => void calls.push('released'),
  }
  const limits = { ...env, KEY_LIMITS: { getByName: () => holder } } as unknown as Env
  // The peer's end is never accepted, so it answers nothing.
  const { 1: server } = new WebSocketPair()
  server.accept()
  keepSlot(limits, { id: 's', principalId: 'key:test', address: undefined }, server)
  vi.advanceTimersByTime(2 * SOCKET_RENEW_MS)
  expect(calls).toEqual(['renewed', 'renewed'])
  server.close(1000)
  vi.advanceTimersByTime(3 * SOCKET_RENEW_MS)
  expect(calls).toEqual(['renewed', 'renewed', 'released'])
})
