import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { engineLogits } from '../../bench/engine/logits.ts'
import { readCheckpoint } from '../../gpu-node/checkpoint/checkpoint.ts'

const ROOT = join(import.meta.dirname, '../..')

/** Format written by test/golden/make_demo_logits.py. */
const Golden = z.object({
  model_sha256: z.string(),
  vocab_size: z.int(),
  cases: z
    .array(
      z.object({
        name: z.string(),
        ids: z.array(z.int()),
        rows: z.array(z.object({ position: z.int(), top: z.array(z.tuple([z.int(), z.number()])) })),
        last: z.string(),
      }),
    )
    .min(3),
})

describe('engine logits of the demo model equal the trainer’s', () => {
  const golden = Golden.parse(JSON.parse(readFileSync(join(ROOT, 'test/golden/demo_logits.json'), 'utf8')))
  const checkpoint = readCheckpoint(join(ROOT, 'models/demo'))
  const { shape, weights } = checkpoint

  it('the golden file belongs to this checkpoint', () => {
    const digest = createHash('sha256')
      .update(readFileSync(join(ROOT, 'models/demo/model.safetensors')))
      .digest('hex')
    expect(digest).toBe(golden.model_sha256)
  })

  // f32: both compute in float32 from the same bf16 weights and differ only in the order of sums; logits are around 10.
  // bf16: inputs of products are rounded to 8 bits of mantissa (2^-9 relative) in every layer (docs/adr/0006).
  // int8, int4: products have errors of 0.6 % and 6 % of their root mean square (explained in test_quantised.cpp).
  // The largest errors of a logit seen here were 0.27 and 2.3; the bounds leave room for other instruction sets.
  for (const { dtype, bound } of [
    { dtype: 'f32', bound: 1e-3 },
    { dtype: 'bf16', bound: 0.25 },
    { dtype: 'int8', bound: 0.5 },
    { dtype: 'int4', bound: 4 },
  ] as const) {
    for (const { name, ids, rows, last } of golden.cases) {
      it(`${dtype}: ${name}`, () => {
        const logits = engineLogits({ shape, weights, dtype, path: ids })
        expect(logits.length).toBe(ids.length * golden.vocab_size)
        const at = (position: number, id: number) => logits[position * golden.vocab_size + id] ?? Number.NaN
        for (const { position, top } of rows) {
          for (const [id, value] of top) expect(Math.abs(at(position, id) - value)).toBeLessThan(bound)
        }
        const bytes = Buffer.from(last, 'base64')
        let worst = 0
        for (let id = 0; id < golden.vocab_size; id++) {
          worst = Math.max(worst, Math.abs(at(ids.length - 1, id) - bytes.readFloatLE(id * 4)))
        }
        expect(worst).toBeLessThan(bound)
      })
    }
  }
})
