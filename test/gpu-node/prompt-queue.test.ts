import { expect, test } from 'vitest'
import { PromptQueue, type QueuedPrompt } from '../../gpu-node/text/prompt-queue.ts'
import { WaitingText } from '../../gpu-node/text/waiting-text.ts'

const MI = 1024 * 1024

test('a prompt waits for one of each other tenant, however many those have and however long they are', () => {
  const queue = new PromptQueue<QueuedPrompt>()
  const add = (tenant: string, units: number, count: number) => {
    for (let i = 0; i < count; i++) queue.add({ tenant, units })
  }
  add('a', 1_000_000, 20)
  add('b', 1_000_000, 20)
  const before = [queue.take(), queue.take(), queue.take(), queue.take()]
  expect(before.map((prompt) => prompt?.tenant).sort()).toEqual(['a', 'a', 'b', 'b'])
  add('late', 20_000, 3)
  const after = Array.from({ length: 6 }, () => queue.take()?.tenant)
  // Its characters decide, not its number of prompts; what it did not wait for it is not owed.
  expect(after.slice(0, 5).filter((tenant) => tenant === 'late')).toHaveLength(3)
})

test('a tenant whose prompts come one by one does not hold another one up for ever', () => {
  const queue = new PromptQueue<QueuedPrompt>()
  const long = { tenant: 'long', units: 1_000_000 }
  const taken: string[] = []
  queue.add({ tenant: 'short', units: 1_000 })
  queue.add(long)
  queue.add({ ...long })
  while (taken.filter((tenant) => tenant === 'long').length < 2 && taken.length < 5_000) {
    taken.push(queue.take()?.tenant ?? '')
    queue.add({ tenant: 'short', units: 1_000 })
  }
  expect(taken.filter((tenant) => tenant === 'short').length).toBeLessThan(1_010)
})

test('text of many tenants is bounded; a tenant alone has all of the bound, and one prompt is always taken', () => {
  const text = new WaitingText()
  text.add('huge', 20 * MI)
  text.remove('huge', 20 * MI)
  for (let i = 0; i < 4; i++) text.add('a', MI)
  expect(() => text.add('a', 1)).toThrow(expect.objectContaining({ code: 'overloaded' }))
  text.add('b', 2 * MI)
  expect(() => text.add('b', 1)).toThrow(expect.objectContaining({ code: 'overloaded' }))
  text.add('c', MI)
  text.add('d', MI)
  expect(() => text.add('e', 1)).toThrow(expect.objectContaining({ code: 'overloaded' }))
  text.remove('b', 2 * MI)
  text.add('e', 0.5 * MI)
  expect(text.prompts).toBe(7)
})
