import type { Context } from 'hono'
import { expect, it } from 'vitest'
import type { AppEnv } from '../../edge/app-env.ts'
import { MAX_WAITING_BYTES, sseResponse } from '../../edge/streams/http/sse.ts'

const ITEM = { text: 'x'.repeat(64 * 1024) }

/** An answer of `items` items, which ends when it is cancelled. */
function answer(items: number) {
  const cancelled = new AbortController()
  let given = 0
  async function* all() {
    while (given < items && !cancelled.signal.aborted) {
      given++
      yield ITEM
      await new Promise((resolve) => setTimeout(resolve))
    }
  }
  const response = sseResponse({} as Context<AppEnv>, all(), () => cancelled.abort())
  return { response, cancelled: cancelled.signal, given: () => given }
}

it('disconnects a client that reads nothing, once a bounded amount waits for it', async () => {
  const { response, cancelled, given } = answer(10_000)
  await new Promise((resolve) => cancelled.addEventListener('abort', resolve))
  expect(given() * ITEM.text.length).toBeGreaterThan(MAX_WAITING_BYTES - 2 * ITEM.text.length)
  expect(given() * ITEM.text.length).toBeLessThan(MAX_WAITING_BYTES + 2 * ITEM.text.length)
  await expect(response.text()).rejects.toThrow()
})

it('sends a client that keeps reading more than the bound in total', async () => {
  const items = (2 * MAX_WAITING_BYTES) / ITEM.text.length
  const { response, cancelled } = answer(items)
  const text = await response.text()
  expect(text.split('data: ')).toHaveLength(items + 2)
  expect(text).toContain('data: [DONE]')
  expect(cancelled.aborted).toBe(false)
})
