import { afterEach, expect, it, vi } from 'vitest'
import { WriteWatch } from '../../edge/keys/budget/write-watch.ts'

afterEach(() => {
  vi.useRealTimers()
})

const storage = (sync: () => Promise<void>) => ({ sync }) as DurableObjectStorage
const good = storage(async () => {})
const full = storage(() => Promise.reject(new Error('database or disk is full: SQLITE_FULL')))
const nothing = async () => {}

it('tells an object that starts again that its last write has failed, for a while', async () => {
  vi.useFakeTimers({ toFake: ['Date'] })
  await expect(new WriteWatch('a').write(full, nothing)).rejects.toThrow('SQLITE_FULL')
  const again = new WriteWatch('a')
  expect(again.failedLately).toBe(true)
  expect(new WriteWatch('b').failedLately).toBe(false)
  // The abort has freed a little space: one success proves nothing.
  await again.write(good, nothing)
  expect(again.failedLately).toBe(true)
  vi.setSystemTime(Date.now() + 31_000)
  expect(again.failedLately).toBe(false)
  expect(new WriteWatch('a').failedLately).toBe(false)
})

it('has nothing to tell an object whose writes have succeeded', async () => {
  await new WriteWatch('c').write(good, nothing)
  expect(new WriteWatch('c').failedLately).toBe(false)
})
