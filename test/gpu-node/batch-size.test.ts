import { expect, test } from 'vitest'
import { EVENT } from '../../gpu-node/engine/engine-events.ts'
import { BatchSize } from '../../gpu-node/requests/batch-size.ts'
import { TokenBytes } from '../../gpu-node/text/token-bytes.ts'

test('counts the longest pieces of a vocabulary with their bytes', () => {
  const longest = 1_000
  const size = new BatchSize(new TokenBytes(new Uint8Array(longest).fill(255), Int32Array.of(0, longest)))
  const rows = { at: 1_000_000, token: '\ufffd'.repeat(longest), bytes: Array(longest).fill(255) }
  let chars = 0
  while (!size.isFull) {
    size.add(EVENT.TOKEN, 0)
    for (let top = 0; top < 21; top++) size.add(EVENT.LOGPROB, 0)
    chars += 22 * JSON.stringify({ ...rows, logprob: -1.2345678806304932 }).length
  }
  expect(chars).toBeGreaterThan(500_000)
  expect(chars).toBeLessThan(1.3 * 1024 * 1024)
})
