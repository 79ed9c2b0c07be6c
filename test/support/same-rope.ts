import { expect } from 'vitest'
import type { RotaryEmbedding } from '../../gpu-node/engine/engine-config.ts'

/** Steps between neighbouring f32 values by which two ways of computing a power may differ. */
const ULPS = 2

/** Expects the same rotary embeddings, but for the last bits of f32. */
export function expectSameRope(is: RotaryEmbedding, should: RotaryEmbedding): void {
  expect(is.theta).toBe(should.theta)
  expect(is.scale).toBeCloseTo(should.scale, 12)
  expect(is.frequencies).toHaveLength(should.frequencies.length)
  for (const [pair, frequency] of should.frequencies.entries()) {
    const ulp = 2 ** (Math.floor(Math.log2(frequency)) - 23)
    expect(Math.abs((is.frequencies[pair] ?? 0) - frequency), `pair ${pair}`).toBeLessThanOrEqual(ULPS * ulp)
  }
}
