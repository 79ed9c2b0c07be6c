import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { LEASE } from '../../edge/nodes/lease.ts'
import { Suspensions } from '../../edge/nodes/suspensions.ts'
import { Silence } from '../../edge/streams/silence.ts'

/** From the stop of a node until its streams are given up: docs/operations.md. */
const PROMISED_MS = 15_000

let silence: Silence
beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  silence.stop()
  vi.useRealTimers()
})

function watch(leaseMs: () => number, startsStream = false) {
  const onLost = vi.fn()
  const asked = vi.fn(async () => leaseMs())
  silence = new Silence({ leaseMs: asked, onLost, startsStream })
  return { onLost, asked }
}

it.each([0, 500, 1_000, 2_999])(
  'a node that stops %i ms after a heartbeat is lost within the promised time',
  async (age) => {
    const stoppedAt = Date.now() + 20_000
    const leaseEndsAt = stoppedAt - age + LEASE.lease_ms
    let lostAt = 0
    const { onLost } = watch(() => leaseEndsAt - Date.now())
    onLost.mockImplementation(() => {
      lostAt = Date.now()
    })
    for (; Date.now() < stoppedAt; await vi.advanceTimersByTimeAsync(50)) silence.heard()
    await vi.advanceTimersByTimeAsync(PROMISED_MS)
    expect(lostAt).toBeGreaterThanOrEqual(leaseEndsAt)
    expect(lostAt - stoppedAt).toBeLessThan(PROMISED_MS - 2_000)
    expect(onLost).toHaveBeenCalledOnce()
  },
)

it('a node whose heartbeats arrive is waited for, and its lease is looked at once per lease', async () => {
  const { onLost, asked } = watch(() => LEASE.lease_ms)
  await vi.advanceTimersByTimeAsync(5 * 60_000)
  expect(onLost).not.toHaveBeenCalled()
  expect(asked.mock.calls.length).toBeLessThan(30)
})

it('a stream that receives events costs no look at the lease', async () => {
  const { asked } = watch(() => 0)
  for (let passed = 0; passed < 60_000; passed += 100) {
    silence.heard()
    await vi.advanceTimersByTimeAsync(100)
  }
  expect(asked).not.toHaveBeenCalled()
})

it('an event that comes while the fleet is asked keeps the node', async () => {
  const { onLost } = watch(() => {
    silence.heard()
    return 0
  })
  await vi.advanceTimersByTimeAsync(30_000)
  expect(onLost).not.toHaveBeenCalled()
})

it('a node that has a lease but never begins a stream is left after a minute, after an event later', async () => {
  const never = watch(() => LEASE.lease_ms, true).onLost
  await vi.advanceTimersByTimeAsync(75_000)
  expect(never).toHaveBeenCalledOnce()
  silence.stop()
  const later = watch(() => LEASE.lease_ms, true).onLost
  silence.heard()
  await vi.advanceTimersByTimeAsync(5 * 60_000)
  expect(later).not.toHaveBeenCalled()
  await vi.advanceTimersByTimeAsync(6 * 60_000)
  expect(later).toHaveBeenCalledOnce()
})

it('a suspension doubles when it happens again, and is forgotten after a good day', () => {
  const why = { code: 'invalid_request', message: 'x'.repeat(1000) }
  const suspensions = new Suspensions([])
  expect(suspensions.add('a', why, 0)).toMatchObject({ until: 60_000, times: 1, reason: 'x'.repeat(200) })
  expect(suspensions.add('a', why, 59_999)).toBeUndefined()
  expect(suspensions.leftMs('a', 59_999)).toBe(1)
  expect(suspensions.leftMs('a', 60_000)).toBe(0)
  const again = suspensions.add('a', why, 60_000)
  expect(again).toMatchObject({ until: 180_000, times: 2 })
  const restored = new Suspensions(again ? [again] : [])
  expect(restored.leftMs('a', 100_000)).toBe(80_000)
  const dayLater = 180_000 + 24 * 3_600_000 + 1
  expect(restored.forget(dayLater - 1)).toEqual([])
  expect(restored.forget(dayLater)).toEqual(['a'])
  expect(restored.add('a', why, dayLater)).toMatchObject({ times: 1 })
  let until = dayLater + 60_000
  for (let times = 0; times < 12; times++) until = restored.add('a', why, until)?.until ?? until
  expect(restored.add('a', why, until)).toMatchObject({ until: until + 3_600_000 })
})
