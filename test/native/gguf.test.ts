import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { writeRandomSafetensors } from '../../bench/engine/random-weights.ts'
import { PIECES } from '../../bench/engine/vocabulary.ts'
import { writeLlamaGguf } from '../../bench/peer/llama-gguf.ts'
import type { Checkpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import { readCheckpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import { PLAIN_LLAMA, plainRope } from '../../gpu-node/checkpoint/plain-llama.ts'
import { readWeights } from '../../gpu-node/checkpoint/weights.ts'
import { openEngine } from '../../gpu-node/engine/binding.ts'
import type { DType, ModelShape } from '../../gpu-node/engine/engine-config.ts'
import { EVENT, EVENT_WIDTH } from '../../gpu-node/engine/engine-events.ts'
import { toEngineConfig } from '../../gpu-node/engine-options.ts'
import { engineRequest } from '../support/engine-request.ts'

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

/** Tokens of a greedy answer, each with the bits of its log-probability and of the likeliest five. */
async function answer(
  checkpoint: Pick<Checkpoint, 'shape' | 'weights' | 'tokens'>,
  dtype: DType,
): Promise<number[]> {
  const numbers: number[] = []
  let finish = () => {}
  const finished = new Promise<void>((resolve) => {
    finish = resolve
  })
  const config = toEngineConfig(checkpoint as Checkpoint, { device: 'cpu', threads: 1, dtype, numBlocks: 16 })
  const engine = await openEngine(config, (rows) => {
    for (let row = 0; row < rows.length; row += EVENT_WIDTH) {
      if (rows[row] === EVENT.FINISH) finish()
      else numbers.push(...rows.subarray(row, row + EVENT_WIDTH))
    }
  })
  const prompt = Int32Array.from({ length: 20 }, (_, i) => 300 + 97 * i)
  engine.submit(engineRequest({ id: 1, prompt, maxTokens: 12, logprobs: 5 }))
  await finished
  await engine.close()
  return numbers
}

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
      const expected = await answer(source, dtype)
      expect(expected.length).toBeGreaterThan(50)
      expect(await answer(checkpoint, dtype)).toEqual(expected)
    }
  }
})
