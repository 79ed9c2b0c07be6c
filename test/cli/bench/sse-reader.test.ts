import { expect, test } from 'vitest'
import { SseReader } from '../../../cli/bench/serving/target/sse-reader.ts'

const STREAM =
  'data: {"text":"日本語 🦦"}\r\n\r\n: keep-alive\n\nevent: x\ndata: two\ndata: lines\n\ndata: [DONE]\n\n'
const EVENTS = ['{"text":"日本語 🦦"}', 'two\nlines', '[DONE]']

test.each([1, 2, 3, 7, 1000])('events are read from pieces of %d bytes', (size) => {
  const events: string[] = []
  const reader = new SseReader((data) => events.push(data))
  const bytes = Buffer.from(STREAM)
  for (let at = 0; at < bytes.length; at += size) reader.push(bytes.subarray(at, at + size))
  expect(events).toEqual(EVENTS)
})
