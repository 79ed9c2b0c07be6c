import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { FramePacing } from '../../gpu-node/requests/frame-pacing.ts'

interface Paced {
  readonly name: string
  urgent: boolean
}

let sent: string[] = []
let pacing: FramePacing<Paced>

beforeEach(() => {
  vi.useFakeTimers()
  sent = []
  pacing = new FramePacing<Paced>(({ name }) => sent.push(name))
})
afterEach(() => vi.useRealTimers())

const a: Paced = { name: 'a', urgent: false }
const b: Paced = { name: 'b', urgent: false }
const first: Paced = { name: 'first', urgent: true }

test('with few running requests each delivery is sent at once', () => {
  pacing.delivered([a, b], 4)
  expect(sent).toEqual(['a', 'b'])
  expect(vi.getTimerCount()).toBe(0)
})

test('with more, text is collected, the longer the more there are, but no longer than 50 ms', () => {
  pacing.delivered([a], 20)
  vi.advanceTimersByTime(10)
  pacing.delivered([a, b], 20)
  vi.advanceTimersByTime(9)
  expect(sent).toEqual([])
  vi.advanceTimersByTime(1)
  expect(sent).toEqual(['a', 'b'])
  pacing.delivered([a], 1000)
  vi.advanceTimersByTime(50)
  expect(sent).toEqual(['a', 'b', 'a'])
})

test('a first text and an end are sent at once, and take along what was held for the request', () => {
  pacing.delivered([a, first], 100)
  expect(sent).toEqual(['first'])
  pacing.delivered([{ ...b, urgent: true }], 100)
  a.urgent = true
  pacing.delivered([a], 100)
  a.urgent = false
  expect(sent).toEqual(['first', 'b', 'a'])
  vi.advanceTimersByTime(50)
  expect(sent).toEqual(['first', 'b', 'a'])
})

test('what is held is sent when the engine closes', () => {
  pacing.delivered([a, b], 100)
  pacing.flushAll()
  expect(sent).toEqual(['a', 'b'])
  expect(vi.getTimerCount()).toBe(0)
})
