import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { writeLlamaGguf } from '../../bench/peer/llama-gguf.ts'
import { type MergedModel, mergeAdapter } from '../../gpu-node/checkpoint/adapter/merge-adapter.ts'
import type { Checkpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import { readConfig } from '../../gpu-node/checkpoint/config.ts'
import { readGguf } from '../../gpu-node/checkpoint/gguf/gguf-file.ts'
import { llamaShape } from '../../gpu-node/checkpoint/gguf/llama-config.ts'
import { llamaWeights } from '../../gpu-node/checkpoint/gguf/llama-weights.ts'
import { checkWeights, readWeights } from '../../gpu-node/checkpoint/weights.ts'
import { openEngine } from '../../gpu-node/engine/binding.ts'
import type { DType } from '../../gpu-node/engine/engine-config.ts'
import { EVENT, EVENT_WIDTH } from '../../gpu-node/engine/engine-events.ts'
import { toEngineConfig } from '../../gpu-node/engine-options.ts'
import { engineRequest } from '../support/engine-request.ts'

const GOLDEN = join(import.meta.dirname, '../golden/lora')
const LIKELIEST = 20

/** Written by make.py in the same folder. */
const Golden = z.object({
  base: z.enum(['tied', 'untied']),
  prompt: z.array(z.int()),
  tokens: z.array(z.int()).min(1),
  logits: z.array(z.array(z.number())),
})
type Golden = z.infer<typeof Golden>

const goldenOf = (name: string) =>
  Golden.parse(JSON.parse(readFileSync(join(GOLDEN, name, 'golden.json'), 'utf8')))

function baseOf({ base }: Golden): MergedModel {
  const folder = join(GOLDEN, base)
  const { shape } = readConfig(folder)
  return { shape, weights: readWeights(folder, shape) }
}

interface Answer {
  tokens: number[]
  /** Of each token: log-probabilities of the likeliest tokens. */
  logprobs: Map<number, number>[]
}

/** The greedy answer to the golden prompt, of as many tokens. */
async function answer(model: MergedModel, golden: Golden, dtype: DType): Promise<Answer> {
  const result: Answer = { tokens: [], logprobs: [] }
  const unused = Array.from({ length: 64 }, (_, id) => id).find((id) => !golden.tokens.includes(id)) ?? 0
  const checkpoint = { ...model, tokens: { fork: undefined, child: undefined, eos: [unused] } } as Checkpoint
  const config = toEngineConfig(checkpoint, { device: 'cpu', threads: 1, dtype, numBlocks: 16 })
  let finish = () => {}
  const finished = new Promise<void>((resolve) => {
    finish = resolve
  })
  const engine = await openEngine(config, (rows) => {
    const numbers = new DataView(rows.buffer, rows.byteOffset, rows.byteLength)
    for (let row = 0; row < rows.length; row += EVENT_WIDTH) {
      const [kind, , , token = 0] = rows.subarray(row)
      if (kind === EVENT.FINISH) finish()
      if (kind === EVENT.TOKEN) {
        result.tokens.push(token)
        result.logprobs.push(new Map())
      }
      if (kind === EVENT.LOGPROB) result.logprobs.at(-1)?.set(token, numbers.getFloat32((row + 4) * 4, true))
    }
  })
  const prompt = Int32Array.from(golden.prompt)
  engine.submit(engineRequest({ id: 1, prompt, maxTokens: golden.tokens.length, logprobs: LIKELIEST }))
  await finished
  await engine.close()
  return result
}

/** Largest difference of a log-probability, as a part of the largest logit. */
function worstError({ logprobs }: Answer, { logits }: Golden): number {
  const largest = Math.max(...logits.flat().map(Math.abs))
  const errors = logprobs.flatMap((likeliest, step) => {
    const row = logits[step] ?? []
    const norm = Math.log(row.reduce((sum, logit) => sum + Math.exp(logit), 0))
    return [...likeliest].map(([token, logprob]) => Math.abs(logprob - ((row[token] ?? Number.NaN) - norm)))
  })
  return Math.max(...errors) / largest
}

const ADAPTERS = [
  ...['plain', 'rslora', 'patterns', 'layers', 'tokens', 'tokens-untied', 'tokens-apart', 'new-tokens'],
  ...['new-tokens-untied', 'saved-head', 'embedding', 'tied-embedding', 'tied-head'],
]

describe('an adapter merged at load gives the logits of peft', () => {
  test.each(ADAPTERS)('%s', async (name) => {
    const golden = goldenOf(name)
    const merged = mergeAdapter(baseOf(golden), join(GOLDEN, name))
    expect(merged.shape.vocabSize).toBe(golden.logits[0]?.length)
    const exact = await answer(merged, golden, 'f32')
    expect(exact.tokens).toEqual(golden.tokens)
    expect(exact.logprobs.every(({ size }) => size >= LIKELIEST)).toBe(true)
    expect(worstError(exact, golden)).toBeLessThan(1e-4)
    const rounded = await answer(merged, golden, 'bf16')
    expect(worstError({ ...rounded, logprobs: rounded.logprobs.slice(0, 1) }, golden)).toBeLessThan(3e-2)
  })

  test('which are not those of the base', async () => {
    const golden = goldenOf('plain')
    const base = await answer(baseOf(golden), golden, 'f32')
    expect(worstError({ ...base, logprobs: base.logprobs.slice(0, 1) }, golden)).toBeGreaterThan(1e-2)
  })
})

describe('into a GGUF file, whose rows of q and k are interleaved', () => {
  const folder = mkdtempSync(join(tmpdir(), 'apar-lora-'))
  afterAll(() => rmSync(folder, { recursive: true }))

  test.each(['plain', 'new-tokens'])('%s gives the same bits as into safetensors', async (name) => {
    const golden = goldenOf(name)
    const base = baseOf(golden)
    const path = join(folder, `${name}.gguf`)
    writeLlamaGguf(path, base, 'F32')
    const file = readGguf(path)
    const { shape: stored, architecture } = llamaShape(file)
    const shape = { ...stored, rmsNormEps: base.shape.rmsNormEps }
    const gguf = { shape, weights: checkWeights([path], llamaWeights(file, shape, architecture), shape) }
    // Not from the repository: quantised layers are cached beside an adapter.
    const adapter = join(folder, name)
    cpSync(join(GOLDEN, name), adapter, { recursive: true })
    for (const dtype of ['f32', 'int8'] as const) {
      const ours = await answer(mergeAdapter(gguf, adapter), golden, dtype)
      expect(ours).toEqual(await answer(mergeAdapter(base, adapter), golden, dtype))
    }
  })
})
