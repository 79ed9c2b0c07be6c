import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { readCheckpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import { openEngine } from '../../gpu-node/engine/binding.ts'
import type { EngineConfig } from '../../gpu-node/engine/engine-config.ts'
import { EVENT, EVENT_WIDTH, FINISH } from '../../gpu-node/engine/engine-events.ts'
import type { MemoryPlan } from '../../gpu-node/engine/memory-plan.ts'
import { type EngineOptions, toEngineConfig } from '../../gpu-node/engine-options.ts'
import { engineRequest } from '../support/engine-request.ts'
import { requires } from '../support/requires.ts'

const MIB = 2 ** 20
const demo = readCheckpoint(join(import.meta.dirname, '../../models/demo'))

function config(options: EngineOptions = {}, contextTokens = demo.shape.contextTokens): EngineConfig {
  const shape = { ...demo.shape, contextTokens }
  return toEngineConfig({ ...demo, shape }, { device: 'cpu', threads: 1, ...options })
}

async function planOf(engineConfig: EngineConfig): Promise<MemoryPlan> {
  const plans: MemoryPlan[] = []
  const engine = await openEngine(engineConfig, () => {}, { onPlan: (plan) => plans.push(plan) })
  await engine.close()
  const [plan] = plans
  if (!plan) throw new Error('there was no plan')
  return plan
}

/** Resident memory of this process in bytes. */
function residentBytes(): number {
  const [, kilobytes] = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? []
  return Number(kilobytes) * 1024
}

describe('an absurd context', () => {
  const onLinux = requires('/proc (Linux)', () => process.platform === 'linux')
  for (const context of [10_000_000, 2 ** 31 - 1]) {
    it.skipIf(!onLinux)(`${context} tokens: takes little memory, and answers`, async () => {
      const before = residentBytes()
      let ended = (_reason: number) => {}
      const end = new Promise<number>((resolve) => {
        ended = resolve
      })
      const engine = await openEngine(config({ memoryFraction: 0.5 }, context), (rows) => {
        for (let at = 0; at < rows.length; at += EVENT_WIDTH)
          if (rows[at] === EVENT.FINISH) ended(rows[at + 3] ?? 0)
      })
      engine.submit(engineRequest({ id: 1, maxTokens: 4 }))
      expect(await end).toBe(FINISH.LENGTH)
      // The model itself has 7 MiB; the pool is gigabytes, of which the pages that were used count.
      expect(residentBytes() - before).toBeLessThan(128 * MIB)
      expect(engine.info.contextTokens).toBeLessThanOrEqual(context)
      await engine.close()
    })
  }
})

it('plans the demo model: weights as stored, a full context per branch', async () => {
  const plan = await planOf(config())
  const stored = demo.weights.tensors.reduce((sum, { shape }) => sum + 2 * shape.reduce((a, b) => a * b), 0)
  const table = 2 * demo.shape.vocabSize * demo.shape.hiddenSize
  // The table is tied to the head, which is packed apart from it.
  expect(plan.weightBytes).toBeGreaterThanOrEqual(stored + table)
  expect(plan.weightBytes).toBeLessThan(1.1 * (stored + table))
  expect(plan).toMatchObject({ device: 'cpu', devices: 1, numBlocks: 64 * 65, contextTokens: 1024 })
  const { numLayers, numKvHeads, headDim } = demo.shape
  expect(plan.blockBytes).toBe(2 * 2 * 16 * numLayers * numKvHeads * headDim)
})

it.each([
  [{}, 512],
  [{ maxStepTokens: 100 }, 100],
  [{ maxBranches: 600 }, 600],
])('plans and opens steps of the CPU with %o: %i tokens', async (options, maxStepTokens) => {
  expect(await planOf(config({ ...options, numBlocks: 80 }))).toMatchObject({ device: 'cpu', maxStepTokens })
})

it('refuses fewer tokens in a step than branches', async () => {
  await expect(planOf(config({ maxStepTokens: 63 }))).rejects.toThrow('maxBranches')
})

describe('a model that does not fit', () => {
  const refusal = async (engineConfig: EngineConfig) =>
    await openEngine(engineConfig, () => {}).then(
      (engine) => engine.close().then(() => 'opened'),
      (error: Error & { cause?: { code?: string } }) => `${error.cause?.code}: ${error.message}`,
    )

  it('is refused with both figures before weights are read', async () => {
    const missing = { ...config({ numBlocks: 2 ** 26 }) }
    missing.weights = { ...missing.weights, files: ['/nowhere/model.safetensors'] }
    expect(await refusal(missing)).toMatch(
      /^out_of_memory: .*the model needs [\d.]+ GiB \(weights .*\), but [\d.]+ [GM]iB are available/,
    )
  })

  it('is refused when the operator leaves too little memory', async () => {
    expect(await refusal(config({ memoryFraction: 1e-6 }))).toMatch(/^out_of_memory: .*are available/)
  })

  it('is refused when the KV cache has too few bytes', async () => {
    expect(await refusal(config({ kvCacheBytes: 1000 }))).toMatch(/^invalid_config: .*31 .*are needed/)
  })
})

it('a KV cache of some bytes gets the blocks that they hold', async () => {
  const { blockBytes } = await planOf(config())
  const plan = await planOf(config({ kvCacheBytes: 50 * blockBytes }))
  expect(plan).toMatchObject({ numBlocks: 50, kvBytes: 50 * blockBytes, contextTokens: (50 - 15) * 16 })
})
