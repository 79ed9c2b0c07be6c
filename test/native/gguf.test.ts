import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { writeRandomSafetensors } from '../../bench/engine/random-weights.ts'
import { PIECES } from '../../bench/engine/vocabulary.ts'
import { writeLlamaGguf } from '../../bench/peer/llama-gguf.ts'
import { readCheckpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import { PLAIN_LLAMA, plainRope } from '../../gpu-node/checkpoint/plain-llama.ts'
import { readWeights } from '../../gpu-node/checkpoint/weights.ts'
import type { ModelShape } from '../../gpu-node/engine/engine-config.ts'
import { greedyAnswer } from '../support/greedy-answer.ts'

const folder = mkdtempSync(join(tmpdir(), 'apar-gguf-engine-'))
afterAll(() => rmSync(folder, { recursive: true }))

const SHAPE: ModelShape = {
  vocabSize: PIECES.length,
  hiddenSize: 64,
  intermediateSize: 96,
  numLayers: 2,
  numHeads: 4,
  numKvHeads: 2,
  headDim: 16,
  contextTokens: 64,
  rmsNormEps: 1e-5,
  rope: plainRope(10_000, 16),
  ...PLAIN_LLAMA,
  tieWordEmbeddings: true,
}

const PROMPT = Int32Array.from({ length: 20 }, (_, i) => 300 + 97 * i)

test('the same weights give the same bits from safetensors and from GGUF', async () => {
  writeRandomSafetensors(join(folder, 'model.safetensors'), SHAPE)
  const tokens = { fork: undefined, child: undefined, eos: [2] }
  const source = { shape: SHAPE, weights: readWeights(folder, SHAPE), tokens }
  for (const type of ['BF16', 'F32'] as const) {
    const path = join(folder, `${type}.gguf`)
    writeLlamaGguf(path, source, type)
    const checkpoint = readCheckpoint(path)
    expect(checkpoint.shape).toEqual({ ...SHAPE, rmsNormEps: Math.fround(SHAPE.rmsNormEps) })
    for (const dtype of ['f32', 'bf16', 'int8'] as const) {
      const expected = await greedyAnswer(source, dtype, PROMPT)
      expect(expected.length).toBeGreaterThan(50)
      expect(await greedyAnswer(checkpoint, dtype, PROMPT)).toEqual(expected)
    }
  }
})
