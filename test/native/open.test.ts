import { join } from 'node:path'
import { expect, it } from 'vitest'
import { readCheckpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import { openEngine } from '../../gpu-node/engine/binding.ts'
import { CUDA_DTYPES, EngineConfig } from '../../gpu-node/engine/engine-config.ts'
import { type EngineOptions, toEngineConfig } from '../../gpu-node/engine-options.ts'

const checkpoint = readCheckpoint(join(import.meta.dirname, '../../models/demo'))
const config = (options: EngineOptions) =>
  toEngineConfig(checkpoint, { threads: 1, numBlocks: 128, ...options })

it('reports loading progress up to all bytes', async () => {
  const done: number[] = []
  const totals = new Set<number>()
  const engine = await openEngine(config({ device: 'cpu' }), () => {}, {
    onLoading: (doneBytes, totalBytes) => {
      done.push(doneBytes)
      totals.add(totalBytes)
    },
  })
  await engine.close()
  // The last report may arrive after the promise has settled.
  await new Promise((resolve) => setImmediate(resolve))
  expect(done.length).toBeGreaterThan(10)
  expect(done).toEqual([...done].sort((a, b) => a - b))
  expect([...totals]).toEqual([done.at(-1)])
})

it('tensor parallelism needs CUDA devices, each listed once', () => {
  const problem = (options: EngineOptions) =>
    EngineConfig.safeParse(config(options)).error?.issues[0]?.message
  expect(config({ devices: [1, 0] })).toMatchObject({ device: 'cuda', devices: [1, 0] })
  expect(config({})).toMatchObject({ device: 'auto', devices: [] })
  expect(problem({ devices: [0, 1] })).toBeUndefined()
  expect(problem({ devices: [0, 1], device: 'cpu' })).toMatch(/device must be cuda/)
  expect(problem({ devices: [0, 1], device: 'auto' })).toMatch(/device must be cuda/)
  expect(problem({ devices: [0, 0] })).toMatch(/twice/)
})

it('a missing device is refused with a code', async () => {
  const opening = openEngine(config({ devices: [62, 63] }), () => {})
  await expect(opening).rejects.toMatchObject({ code: 'engine_unavailable', cause: { code: 'unavailable' } })
})

it('an fp8 KV cache is refused on the CPU with a code', async () => {
  const opening = openEngine(config({ device: 'cpu', kvCacheDtype: 'fp8' }), () => {})
  await expect(opening).rejects.toMatchObject({
    code: 'engine_unavailable',
    message: expect.stringMatching(/fp8 KV cache is for CUDA devices/),
    cause: { code: 'unavailable' },
  })
})

it('data types that only CUDA devices compute are refused on the CPU with a code', async () => {
  for (const dtype of CUDA_DTYPES) {
    const opening = openEngine(config({ device: 'cpu', dtype }), () => {})
    await expect(opening).rejects.toMatchObject({
      code: 'engine_unavailable',
      message: expect.stringContaining(`${dtype} weights are for CUDA devices`),
      cause: { code: 'unavailable' },
    })
  }
})

it('reports the data type of the KV cache', async () => {
  for (const dtype of ['f32', 'bf16'] as const) {
    const engine = await openEngine(config({ device: 'cpu', dtype }), () => {})
    expect(engine.info).toMatchObject({ dtype, kvCacheDtype: dtype })
    await engine.close()
  }
})
