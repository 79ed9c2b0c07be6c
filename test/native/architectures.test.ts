import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { emulateCuda } from '../../bench/emulated/both.ts'
import { engineLogits } from '../../bench/engine/logits.ts'
import { readSafetensors } from '../../gpu-node/checkpoint/safetensors.ts'
import type { ModelShape } from '../../gpu-node/engine/engine-config.ts'

const ROOT = join(import.meta.dirname, '../..')
/** Tiny checkpoints with the logits that transformers computes from them (make.py). */
const GOLDEN = join(import.meta.dirname, '../golden/architectures')
const read = (...path: string[]) => JSON.parse(readFileSync(join(GOLDEN, ...path), 'utf8')) as unknown
const TOKENS = z.object({ shared: z.array(z.int()), branches: z.array(z.array(z.int())) })
const { shared, branches } = TOKENS.parse(read('tokens.json'))

const NAMES = readdirSync(GOLDEN, { withFileTypes: true }).flatMap((entry) =>
  entry.isDirectory() ? [entry.name] : [],
)

function load(name: string) {
  const shape = read(name, 'shape.json') as ModelShape
  const path = join(GOLDEN, name, 'model.safetensors')
  const tensors = readSafetensors(path).map((tensor) => ({ ...tensor, file: 0, dtype: 'BF16' as const }))
  const bytes = readFileSync(join(GOLDEN, name, 'logits.f32'))
  const logits = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength))
  return { shape, weights: { files: [path], tensors }, logits }
}

const largest = (values: Float32Array) => values.reduce((max, value) => Math.max(max, Math.abs(value)), 0)

/** The largest difference, relative to the largest logit. */
function difference(got: Float32Array, want: Float32Array): number {
  expect(got.length).toBe(want.length)
  return largest(got.map((value, i) => value - (want[i] ?? Number.NaN))) / largest(want)
}

/** Token ids by descending logit, of one row. */
function ranked(logits: Float32Array, row: number, vocab: number): number[] {
  const of = (id: number) => logits[row * vocab + id] ?? Number.NaN
  return Array.from({ length: vocab }, (_, id) => id).sort((a, b) => of(b) - of(a))
}

/**
 * Rows of a step, besides all: decoding token by token, and chunks in which both branches have rows. How tokens are
 * divided into steps changes no bit.
 */
const STEPS = [1, 7]

describe('logits equal those of transformers', () => {
  it('there is a checkpoint of every architecture', () => expect(NAMES.length).toBeGreaterThan(12))

  for (const name of NAMES) {
    it(name, () => {
      const { shape, weights, logits } = load(name)
      const vocab = shape.vocabSize
      expect(logits.length).toBe((shared.length + branches.flat().length) * vocab)
      const job = { shape, weights, path: shared, branches }
      const whole = engineLogits({ ...job, dtype: 'f32' })
      expect(difference(whole, logits)).toBeLessThan(1e-5)
      for (const rows of STEPS) expect(engineLogits({ ...job, dtype: 'f32', rows })).toEqual(whole)
      checkBf16(engineLogits({ ...job, dtype: 'bf16' }), logits, vocab)
    })
  }
})

describe("the CUDA kernels' logits, on a device that the host emulates, equal those of transformers", () => {
  beforeAll(() => emulateCuda(ROOT))

  for (const name of NAMES) {
    it(name, () => {
      const { shape, weights, logits } = load(name)
      const job = { shape, weights, path: shared, branches, device: 'cuda' } as const
      expect(difference(engineLogits({ ...job, dtype: 'f32' }), logits)).toBeLessThan(1e-5)
      const bf16 = engineLogits({ ...job, dtype: 'bf16' })
      checkBf16(bf16, logits, shape.vocabSize)
      expect(engineLogits({ ...job, dtype: 'bf16', rows: 7 })).toEqual(bf16)
    })
  }
})

/** bf16 rounds the inputs of every product to 8 bits: only tokens whose logits are close change places. */
function checkBf16(bf16: Float32Array, logits: Float32Array, vocab: number): void {
  for (let row = 0; row < logits.length / vocab; row++) {
    const want = ranked(logits, row, vocab)
    const first = ranked(bf16, row, vocab)[0] ?? -1
    const gap = (logits[row * vocab + (want[0] ?? 0)] ?? 0) - (logits[row * vocab + first] ?? Number.NaN)
    expect(gap / largest(logits), `row ${row}`).toBeLessThan(0.02)
    expect(want.slice(0, 3)).toContain(first)
  }
}
