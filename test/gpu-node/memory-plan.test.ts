import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readCheckpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import {
  describeMemory,
  MAX_BLOCKS,
  minimumBlocks,
  type NativeMemoryPlan,
  usefulBlocks,
  withContext,
} from '../../gpu-node/engine/memory-plan.ts'
import { type EngineOptions, toEngineConfig } from '../../gpu-node/engine-options.ts'
import { scriptedRunner } from '../support/scripted-node.ts'
import { type TinyFolder, tinyCheckpoint, tinyConfig } from '../support/tiny-checkpoint.ts'

const MIB = 2 ** 20
const plan: NativeMemoryPlan = {
  device: 'cpu',
  devices: 1,
  maxStepTokens: 512,
  freeBytes: 2048 * MIB,
  freeSource: 'the memory limit of the cgroup',
  keptFreeBytes: 256 * MIB,
  weightBytes: 500 * MIB,
  workspaceBytes: 12 * MIB,
  blockBytes: MIB,
  kvBytes: 1280 * MIB,
  numBlocks: 1280,
}

describe('the KV pool that a configuration asks for', () => {
  let folder: TinyFolder
  beforeAll(() => {
    folder = tinyCheckpoint()
  })
  afterAll(() => folder.remove())
  const config = (options: EngineOptions = {}) => toEngineConfig(readCheckpoint(folder.path), options)

  test('holds a full context for every branch, and never more than native code counts', () => {
    // 256 tokens are 16 blocks, and one more for the fork.
    expect(config()).toMatchObject({ numBlocks: 64 * 17, minBlocks: 31, kvCacheBytes: 0, memoryFraction: 0 })
    expect(config({ maxBranches: 3 })).toMatchObject({ numBlocks: 3 * 17 })
    expect(config({ maxBranches: 1 })).toMatchObject({ numBlocks: 31 })
    expect(usefulBlocks(2 ** 31 - 1, true, 4096)).toBe(MAX_BLOCKS)
  })

  test('is exactly what the operator gives, in blocks or bytes', () => {
    expect(config({ numBlocks: 40 })).toMatchObject({ numBlocks: 40, minBlocks: 40 })
    expect(config({ kvCacheBytes: 5 * MIB })).toMatchObject({ kvCacheBytes: 5 * MIB, numBlocks: MAX_BLOCKS })
    expect(config({ memoryFraction: 0.5 })).toMatchObject({ memoryFraction: 0.5 })
    const refused = (options: EngineOptions, error: object) =>
      expect(() => config(options)).toThrow(expect.objectContaining(error))
    refused({ numBlocks: 40, kvCacheBytes: 5 * MIB }, { code: 'invalid_option' })
    refused({ numBlocks: 30 }, { message: '30 KV blocks are too few: take 31 or more' })
  })

  test('leaves the tokens of a step to the device, except where the operator says how many', () => {
    expect(config()).toMatchObject({ maxStepTokens: 0 })
    expect(config({ maxStepTokens: 100 })).toMatchObject({ maxStepTokens: 100 })
  })

  test('may be shorter than a context of any length', () => {
    expect(minimumBlocks(2 ** 31 - 1, true)).toBe(31)
    expect(minimumBlocks(100, false)).toBe(7)
    for (const context of [1e7, 2 ** 31, 2 ** 40]) {
      folder.write('config.json', JSON.stringify({ ...tinyConfig(), max_position_embeddings: context }))
      expect(config()).toMatchObject({
        minBlocks: 31,
        model: { contextTokens: Math.min(context, 2 ** 31 - 1) },
      })
    }
  })
})

describe('the plan', () => {
  test('shortens a context that the pool cannot hold, with a block to spare for each level of children', () => {
    expect(withContext(plan, 4096, true).contextTokens).toBe(4096)
    expect(withContext(plan, 100_000, true).contextTokens).toBe((1280 - 15) * 16)
    expect(withContext(plan, 100_000, false).contextTokens).toBe(1280 * 16)
  })

  test('is one line for the operator, and fields', () => {
    const { message, fields } = describeMemory(withContext(plan, 4096, true))
    expect(message).toBe(
      'memory: weights 500 MiB, workspace 12 MiB for steps of 512 tokens; ' +
        'KV cache 1.3 GiB = 1280 blocks = 20480 tokens = 5 full contexts; ' +
        '2.0 GiB were free (the memory limit of the cgroup)',
    )
    expect(fields).toMatchObject({
      max_step_tokens: 512,
      kv_blocks: 1280,
      kv_tokens: 20480,
      full_contexts: 5,
      context_tokens: 4096,
    })
    expect(describeMemory(withContext({ ...plan, devices: 2 }, 4096, true)).message).toMatch(
      /^memory on each of 2 devices: /,
    )
  })

  test('says when no full context fits, and the longest request', () => {
    const { message, fields } = describeMemory(withContext(plan, 100_000, true))
    expect(message).toMatch(/a full context of 100000 tokens does not fit: requests have at most 20240$/)
    expect(fields).toMatchObject({ context_tokens: 20240, model_context_tokens: 100_000, full_contexts: 0.2 })
  })
})

test('requests are limited to the context that the pool can hold', async () => {
  const folder = tinyCheckpoint()
  const { runner, engine } = await scriptedRunner(folder, 100)
  folder.remove()
  const start = async (content: string, max_tokens?: number) =>
    await runner.start('s', { model: 'tiny', messages: [{ role: 'user', content }], max_tokens }, () => {})
  expect(runner.contextTokens).toBe(100)
  await start('x')
  const prompt = engine.submitted[0]?.prompt.length ?? 0
  expect(engine.submitted[0]?.maxTokens).toBe(100 - prompt)
  await start('x', 1_000_000)
  expect(engine.submitted[1]?.maxTokens).toBe(100 - prompt)
  await expect(start('x'.repeat(120))).rejects.toThrow(
    expect.objectContaining({
      code: 'context_length_exceeded',
      message: expect.stringMatching(/\b(99|100)\b/),
    }),
  )
})
