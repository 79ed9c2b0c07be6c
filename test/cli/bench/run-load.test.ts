import { describe, expect, test } from 'vitest'
import { runLoad } from '../../../cli/bench/serving/load/run-load.ts'
import { RequestFailed } from '../../../cli/bench/serving/target/answer.ts'
import type { BenchRequest, Target } from '../../../cli/bench/serving/target/target.ts'

const REQUEST: BenchRequest = {
  ...{ model: 'm', messages: [{ role: 'user', content: 'Hello' }], maxTokens: 16 },
  ...{ fixedLength: false, temperature: 0, seed: 3, mode: undefined },
}
const requests = (count: number) =>
  Array.from({ length: count }, (_, index) => ({ id: String(index), request: REQUEST }))

/** Answers when it is told to. */
class HeldTarget implements Target {
  readonly held: (() => void)[] = []
  most = 0
  #running = 0

  async ask(): Promise<void> {
    this.most = Math.max(this.most, ++this.#running)
    await new Promise<void>((resolve) => this.held.push(resolve))
    this.#running--
  }

  close(): void {}
}

/** What can run without a timer has run. */
const settled = () => new Promise((resolve) => setTimeout(resolve, 5))

describe('a load', () => {
  test('is open: what is due is sent, however many are in flight', async () => {
    const target = new HeldTarget()
    const load = runLoad({ target, requests: requests(5), arrivals: [0, 0, 1, 2, 3], concurrency: null })
    while (target.held.length < 5) await settled()
    for (const release of target.held) release()
    const { samples, latenessMs } = await load
    expect(target.most).toBe(5)
    expect(samples.map(({ due_ms }) => due_ms)).toEqual([0, 0, 1, 2, 3])
    expect(samples.every(({ sent_ms, due_ms }) => sent_ms >= due_ms - 1)).toBe(true)
    expect(latenessMs).toHaveLength(5)
  })

  test('notes how long an answer was to be, if its length was fixed', async () => {
    const target: Target = { ask: async () => {}, close: () => {} }
    const fixed = { id: 'fixed', request: { ...REQUEST, fixedLength: true } }
    const load = { target, requests: [...requests(1), fixed], arrivals: [0, 0], concurrency: null }
    const { samples } = await runLoad(load)
    expect(samples.map(({ asked_tokens }) => asked_tokens)).toEqual([undefined, 16])
  })

  test('keeps to the limit of requests in flight, and says who waited', async () => {
    const target = new HeldTarget()
    const load = runLoad({ target, requests: requests(5), arrivals: [0, 0, 0, 0, 0], concurrency: 2 })
    for (let released = 0; released < 5; released++) {
      do await settled()
      while (target.held.length === 0)
      target.held.shift()?.()
    }
    const { samples, latenessMs } = await load
    expect(target.most).toBe(2)
    expect(samples.map(({ id }) => id)).toEqual(['0', '1', '2', '3', '4'])
    // Waiting for a place is no lateness of the client.
    expect(latenessMs).toHaveLength(2)
  })

  test('counts a failure as a sample, with what had arrived', async () => {
    const target: Target = {
      ask: async (_, answer) => {
        answer.addText('Hi', performance.now())
        throw new RequestFailed('overloaded', 'busy')
      },
      close: () => {},
    }
    const seen: string[] = []
    const { samples } = await runLoad({
      ...{ target, requests: requests(1), arrivals: [0], concurrency: null },
      onSample: ({ id }) => seen.push(id),
    })
    expect(samples[0]).toMatchObject({
      error: 'overloaded',
      message: 'busy',
      text: 'Hi',
      counted: false,
      output_tokens: 1,
    })
    expect(seen).toEqual(['0'])
  })

  test('ends with a fault of this program', async () => {
    const target: Target = { ask: () => Promise.reject(new TypeError('a fault')), close: () => {} }
    const load = runLoad({ target, requests: requests(2), arrivals: [0, 0], concurrency: null })
    await expect(load).rejects.toThrow('a fault')
  })
})
