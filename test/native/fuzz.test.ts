import { join } from 'node:path'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { readCheckpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import type { Engine } from '../../gpu-node/engine/engine.ts'
import type { EngineConfig } from '../../gpu-node/engine/engine-config.ts'
import { NO_TEXT } from '../../gpu-node/engine/token-table.ts'
import { toEngineConfig } from '../../gpu-node/engine-options.ts'
import { tokenBytes } from '../../gpu-node/text/token-bytes.ts'
import { openUnchecked } from '../support/addon.ts'
import { engineRequest } from '../support/engine-request.ts'

// Seeded mutations of arguments to native code, without TypeScript's validation: each must be accepted or refused
// with a code. A crash ends the test run, so it cannot go unnoticed. APAR_FUZZ_RUNS and APAR_FUZZ_SEED extend the
// test.

const ROOT = join(import.meta.dirname, '../..')
const RUNS = Number(process.env.APAR_FUZZ_RUNS ?? 400)
const SEED = Number(process.env.APAR_FUZZ_SEED ?? 1)
const CODES = [
  ...['invalid_config', 'invalid_weights', 'invalid_request', 'duplicate_request'],
  ...['queue_full', 'request_too_large', 'out_of_memory'],
]

const checkpoint = readCheckpoint(join(ROOT, 'models/demo'))
const config: EngineConfig = {
  ...toEngineConfig(checkpoint, { threads: 1, numBlocks: 64 }),
  maxStepTokens: 32,
  maxBranches: 8,
}

const text = { ...NO_TEXT, ...tokenBytes(checkpoint.text).flat(checkpoint.shape.vocabSize) }

const evilNumber = fc.oneof(
  fc.constantFrom(0, -1, 1, 2, 3, 15, 16, 17, 2 ** 31 - 1, 2 ** 31, -(2 ** 31), 2 ** 32, 2 ** 53, -(2 ** 53)),
  fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0.5, 1e-30, 1e30),
  fc.integer({ min: -10, max: 10_000 }),
)
const evil = fc.oneof(
  { weight: 5, arbitrary: evilNumber },
  fc.constantFrom<unknown>(undefined, null, true, '', 'bf16', 'F32', [], {}, [[]], () => {}),
  fc.int32Array({ maxLength: 40 }),
  fc.float32Array({ maxLength: 4 }),
)
/** Mutations: a path in the object tree (at each level an index modulo the number of keys) and the new value. */
const mutations = fc.array(fc.tuple(fc.array(fc.nat(), { minLength: 1, maxLength: 6 }), evil), {
  minLength: 1,
  maxLength: 3,
})

function mutate(value: object, changes: readonly [number[], unknown][]): unknown {
  const copy = structuredClone(value) as Record<string, unknown>
  for (const [steps, replacement] of changes) {
    let at = copy
    for (const [index, step] of steps.entries()) {
      const keys = Object.keys(at)
      const key = keys[step % keys.length]
      if (key === undefined) break
      const next = at[key]
      // Never mutated: a large value would exhaust the machine's memory or threads.
      if (key === 'numBlocks' || key === 'threads') break
      const inner = typeof next === 'object' && next !== null && !ArrayBuffer.isView(next)
      if (!inner || index === steps.length - 1) {
        at[key] = replacement
        break
      }
      at = next as Record<string, unknown>
    }
  }
  return copy
}

async function outcome(call: () => unknown): Promise<unknown> {
  try {
    return await call()
  } catch (error) {
    expect(CODES).toContain(error instanceof Error && 'code' in error ? error.code : error)
    return undefined
  }
}

it('configurations, tensor tables and the text of tokens', { timeout: 300_000 }, async () => {
  let refused = 0
  await fc.assert(
    fc.asyncProperty(mutations, async (changes) => {
      const given = mutate({ config, text }, changes) as Record<string, unknown>
      const engine = await outcome(() => openUnchecked(given.config, () => {}, given.text))
      if (engine) await (engine as Engine).close()
      else refused++
    }),
    { numRuns: RUNS * 2, seed: SEED },
  )
  expect(refused).toBeGreaterThan(RUNS / 2)
})

it('requests', { timeout: 300_000 }, async () => {
  const engine = await openUnchecked(config, () => {})
  let refused = 0
  let accepted = 0
  await fc.assert(
    fc.asyncProperty(mutations, fc.integer({ min: 1, max: 40 }), async (changes, id) => {
      const request = engineRequest({
        id,
        maxTokens: 8,
        maxBranches: 4,
        maxDepth: 3,
        temperature: 1,
        logprobs: 2,
      })
      const isAccepted = await outcome(() => {
        engine.submit(mutate(request, changes) as never)
        return true
      })
      if (isAccepted) accepted++
      else refused++
      if (accepted % 50 === 0) for (let other = 0; other <= 40; other++) engine.abort(other)
    }),
    { numRuns: RUNS * 4, seed: SEED },
  )
  await engine.close()
  expect(engine.stats().usedBlocks).toBe(0)
  expect(Math.min(refused, accepted)).toBeGreaterThan(RUNS / 10)
})
