import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { NO_DRY } from '../../gpu-node/engine/dry-sampling.ts'
import { openRunner } from '../../gpu-node/open-runner.ts'
import type { Runner } from '../../gpu-node/requests/runner.ts'
import { GenerateRequest } from '../../shared/protocol/request.ts'

let runner: Runner

beforeAll(async () => {
  runner = await openRunner(join(import.meta.dirname, '../../models/demo'), { threads: 1, dtype: 'f32' })
})
afterAll(() => runner.close())

let streams = 0

async function answer(fields: object): Promise<string> {
  const request = GenerateRequest.parse({
    model: runner.model,
    messages: [{ role: 'user', content: 'Write an essay about everything.' }],
    max_tokens: 300,
    ignore_eos: true,
    temperature: 0,
    branching: { enabled: false },
    ...fields,
  })
  let text = ''
  await new Promise<void>((resolve, reject) => {
    const read = ({ events }: Parameters<Parameters<Runner['start']>[2]>[0]) => {
      for (const event of events) {
        if (event.type === 'delta') text += event.text
        if (event.type === 'done') resolve()
        if (event.type === 'error') reject(new Error(event.message))
      }
    }
    runner.start(`stream-${++streams}`, request, read).catch(reject)
  })
  return text
}

/** Of a text that occurs twice in it. */
function longestRepeat(text: string): number {
  let longest = 0
  for (let begin = 0; begin + longest < text.length; begin++)
    while (text.indexOf(text.slice(begin, begin + longest + 1), begin + 1) !== -1) longest++
  return longest
}

const STRONG = { dry_multiplier: 10, dry_base: 2, dry_allowed_length: 3, dry_sequence_breakers: [] }

test('an answer that goes round in circles does not with DRY', async () => {
  const plain = await answer({})
  const dry = await answer(STRONG)
  expect(longestRepeat(plain)).toBeGreaterThan(60)
  expect(longestRepeat(dry)).toBeLessThan(40)
  expect(await answer(STRONG)).toBe(dry)
})

test('it is off with a multiplier of 0, where a breaker is in each token, and where nothing is looked at', async () => {
  const plain = await answer({})
  const letters = ['a', 'e', 'i', 'o', 'u', ' ', 't', 'n']
  expect(NO_DRY.multiplier).toBe(0)
  expect(await answer({ ...STRONG, dry_multiplier: 0 })).toBe(plain)
  expect(await answer({ ...STRONG, dry_penalty_last_n: 0 })).toBe(plain)
  expect(longestRepeat(await answer({ ...STRONG, dry_sequence_breakers: letters }))).toBeGreaterThan(60)
})
