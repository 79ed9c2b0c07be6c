import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { counting, saying } from '../../cli/progress.ts'

describe('what takes long says so on the error output', () => {
  const said: string[] = []
  beforeEach(() => {
    said.length = 0
    vi.useFakeTimers()
    vi.spyOn(console, 'error').mockImplementation((line) => void said.push(line))
  })
  afterEach(() => {
    vi.useRealTimers()
    vi.restoreAllMocks()
  })

  test('after 2 s, and then every 10 s', async () => {
    let resolve: (value: string) => void = () => {}
    const promise = new Promise<string>((done) => {
      resolve = done
    })
    const waiting = saying('loading', promise)
    await vi.advanceTimersByTimeAsync(1_900)
    expect(said).toEqual([])
    await vi.advanceTimersByTimeAsync(10_200)
    expect(said).toEqual(['apar: loading ...', 'apar: loading, for 12 s ...'])
    resolve('done')
    expect(await waiting).toBe('done')
    await vi.advanceTimersByTimeAsync(60_000)
    expect(said).toHaveLength(2)
  })

  test('not where it is quick, or fails', async () => {
    expect(await saying('loading', Promise.resolve(1))).toBe(1)
    await expect(saying('loading', Promise.reject(new Error('no')))).rejects.toThrow('no')
    await vi.advanceTimersByTimeAsync(60_000)
    expect(said).toEqual([])
  })

  test('with a number, where it leaves timers no time', () => {
    const items = counting('reading', [1, 2, 3, 4])
    expect([items.next().value, items.next().value]).toEqual([1, 2])
    vi.advanceTimersByTime(2_500)
    expect([items.next().value, items.next().value, items.next().done]).toEqual([3, 4, true])
    expect(said).toEqual(['apar: reading: 2 ...'])
  })
})
