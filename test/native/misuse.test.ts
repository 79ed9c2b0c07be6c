import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { readCheckpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import { openEngine } from '../../gpu-node/engine/binding.ts'
import type { Engine } from '../../gpu-node/engine/engine.ts'
import type { EngineConfig } from '../../gpu-node/engine/engine-config.ts'
import { EVENT, EVENT_WIDTH, FINISH } from '../../gpu-node/engine/engine-events.ts'
import { NO_TEXT } from '../../gpu-node/engine/token-table.ts'
import { toEngineConfig } from '../../gpu-node/engine-options.ts'
import { ADDON, addon, openUnchecked } from '../support/addon.ts'
import { engineRequest } from '../support/engine-request.ts'

// Invalid calls of the addon, without TypeScript's validation: each must give an error code, never a crash.

const ROOT = join(import.meta.dirname, '../..')
const config = toEngineConfig(readCheckpoint(join(ROOT, 'models/demo')), { threads: 1, numBlocks: 128 })

const codeOf = async (call: () => unknown): Promise<unknown> => {
  try {
    await call()
    return 'accepted'
  } catch (error) {
    return error instanceof Error && 'code' in error ? error.code : error
  }
}

/** The configuration with a value replaced at a path. */
const broken = (path: string[], value: unknown): unknown => {
  const copy: Record<string, unknown> = structuredClone({ ...config })
  let at = copy
  for (const key of path.slice(0, -1)) at = at[key] as Record<string, unknown>
  at[path.at(-1) ?? ''] = value
  return copy
}

const HEADS = { numHeads: 2, numLayers: 1, sharesLmHead: true, readsNextToken: false, vocabSize: 1 }

describe('open', () => {
  const cases: [string, unknown[], string][] = [
    ['no arguments', [], 'invalid_config'],
    ['no function', [config], 'invalid_config'],
    ['a string', ['config', () => {}], 'invalid_config'],
    ['an empty object', [{}, () => {}], 'invalid_config'],
    ['a shape of strings', [broken(['model', 'hiddenSize'], '256'), () => {}], 'invalid_config'],
    ['heads that do not divide', [broken(['model', 'numKvHeads'], 3), () => {}], 'invalid_config'],
    ['a negative size', [broken(['model', 'numLayers'], -1), () => {}], 'invalid_config'],
    ['another vocabulary', [broken(['model', 'vocabSize'], 5000), () => {}], 'invalid_weights'],
    ['no frequencies', [broken(['model', 'rope', 'frequencies'], []), () => {}], 'invalid_config'],
    ['frequencies of strings', [broken(['model', 'rope', 'frequencies'], ['1']), () => {}], 'invalid_config'],
    [
      'a factor that is no number',
      [broken(['model', 'rope', 'scale'], Number.NaN), () => {}],
      'invalid_config',
    ],
    ['a layer that is not there', [broken(['model', 'layersWithoutRope'], [99]), () => {}], 'invalid_config'],
    ['biases that are not stored', [broken(['model', 'biases', 'qkv'], true), () => {}], 'invalid_weights'],
    ['head norms that are not stored', [broken(['model', 'headNorms'], true), () => {}], 'invalid_weights'],
    ['a tensor without a file', [broken(['weights', 'files'], []), () => {}], 'invalid_weights'],
    ['a missing file', [broken(['weights', 'files'], ['/nowhere']), () => {}], 'invalid_weights'],
    ['no tensors', [broken(['weights', 'tensors'], []), () => {}], 'invalid_weights'],
    ['tensors of numbers', [broken(['weights', 'tensors'], [1, 2]), () => {}], 'invalid_config'],
    ['an unknown dtype', [broken(['dtype'], 'f64'), () => {}], 'invalid_config'],
    ['an unknown KV cache', [broken(['kvCacheDtype'], 'fp4'), () => {}], 'invalid_config'],
    ['no KV cache dtype', [broken(['kvCacheDtype'], undefined), () => {}], 'invalid_config'],
    ['an unknown device', [broken(['device'], 'tpu'), () => {}], 'invalid_config'],
    ['devices that are not a list', [broken(['devices'], '0,1'), () => {}], 'invalid_config'],
    ['devices of strings', [broken(['devices'], ['0']), () => {}], 'invalid_config'],
    ['devices without CUDA', [broken(['devices'], [0, 1]), () => {}], 'invalid_config'],
    ['Medusa heads that are a number', [broken(['medusa'], 2), () => {}], 'invalid_config'],
    [
      'Medusa heads of strings',
      [broken(['medusa'], { ...HEADS, numHeads: '2' }), () => {}],
      'invalid_config',
    ],
    ['too many Medusa heads', [broken(['medusa'], { ...HEADS, numHeads: 9 }), () => {}], 'invalid_config'],
    ['Medusa heads that are not stored', [broken(['medusa'], HEADS), () => {}], 'invalid_weights'],
    ['no threads', [broken(['threads'], 0), () => {}], 'invalid_config'],
    ['no blocks', [broken(['numBlocks'], 0), () => {}], 'invalid_config'],
    ['more memory than there is', [broken(['numBlocks'], 2 ** 26), () => {}], 'out_of_memory'],
    ['a control token outside', [broken(['tokens', 'fork'], 1e6), () => {}], 'invalid_config'],
    ['a deadline policy without one', [broken(['policy'], 'deadline'), () => {}], 'invalid_config'],
    [
      'more branches than rows',
      [{ ...config, maxStepTokens: 512, maxBranches: 1e6 }, () => {}],
      'invalid_config',
    ],
    ['no requests', [broken(['maxRequests'], 0), () => {}], 'invalid_config'],
    ['an unknown policy', [broken(['policy'], 'greedy'), () => {}], 'invalid_config'],
    ['a watermark of everything', [broken(['watermark'], 1), () => {}], 'invalid_config'],
  ]
  for (const [name, args, code] of cases) {
    it(`${name}: ${code}`, async () => expect(await codeOf(() => openUnchecked(...args))).toBe(code))
  }
})

describe('start', () => {
  it('refuses a text of another shape, and starts one engine', async () => {
    const { vocabSize } = config.model
    const start = (model: unknown, text: object) =>
      codeOf(() => addon.start(model, { ...NO_TEXT, ...text }, () => {}))
    const offsets = (last: number) => new Int32Array(vocabSize + 1).fill(last, 1)
    const refused: [object, string][] = [
      [{ bytes: [1] }, 'invalid_config'],
      [{ offsets: Int32Array.of(0, 0) }, 'invalid_config'],
      [{ offsets: offsets(9) }, 'invalid_config'],
      [{ offsets: offsets(-1) }, 'invalid_config'],
      [{ markers: 'none' }, 'invalid_config'],
    ]
    for (const [text, code] of refused)
      expect([text, await start(await addon.load(config), text)]).toEqual([text, code])
    for (const model of [undefined, {}, 'model', config])
      expect(await start(model, {})).toBe('invalid_config')
    const model = await addon.load(config)
    const engine = addon.start(model, NO_TEXT, () => {}) as Engine
    expect(await start(model, {})).toBe('invalid_config')
    await engine.close()
  })
})

describe('an open engine', () => {
  const request = (fields: object) => ({ ...engineRequest({ id: 1 }), ...fields })
  const branch = (fields: object) => ({
    ...{ id: 0, parent: -1, forkPosition: -1, tokens: Int32Array.of(1), ended: 0 },
    ...fields,
  })
  const submit = (engine: Engine, value: unknown) => codeOf(() => engine.submit(value as never))

  it('refuses requests of the wrong type or beyond its limits', async () => {
    const engine = await openUnchecked(config, () => {})
    const cases: [unknown, string][] = [
      [undefined, 'invalid_request'],
      [{}, 'invalid_config'],
      [request({ prompt: [1, 2] }), 'invalid_config'],
      [request({ prompt: new Float32Array(3) }), 'invalid_config'],
      [request({ prompt: new Int32Array() }), 'invalid_request'],
      [request({ prompt: Int32Array.of(-1) }), 'invalid_request'],
      [request({ prompt: Int32Array.of(1 << 30) }), 'invalid_request'],
      [request({ prompt: new Int32Array(5000).fill(1) }), 'request_too_large'],
      [request({ id: 2 ** 40 }), 'invalid_request'],
      [request({ id: -5 }), 'invalid_request'],
      [request({ id: Number.NaN }), 'invalid_request'],
      [request({ maxTokens: 0 }), 'invalid_request'],
      [request({ temperature: Number.NaN }), 'invalid_request'],
      [request({ topP: 2 }), 'invalid_request'],
      [request({ logprobs: 1000 }), 'invalid_request'],
      [request({ branches: [1] }), 'invalid_config'],
      [request({ branches: [branch({ tokens: [1] })] }), 'invalid_config'],
      [request({ branches: [branch({ id: 2 ** 31 })] }), 'invalid_request'],
      [request({ branches: [branch({ tokens: Int32Array.of(1 << 30) })] }), 'invalid_request'],
      [request({ branches: [branch({ ended: 77 })] }), 'invalid_request'],
      [
        request({ branches: [branch({}), branch({ id: 1, parent: 0, forkPosition: 2 ** 40 })] }),
        'invalid_request',
      ],
      [request({ forced: [1] }), 'invalid_config'],
      [request({ forced: [{ parent: -1, tokens: [1] }] }), 'invalid_config'],
      [request({ forced: [{ parent: 2 ** 31, tokens: Int32Array.of(1) }] }), 'invalid_request'],
      [request({ forced: [{ parent: -1, tokens: Int32Array.of(-1) }] }), 'invalid_request'],
      [request({ logitBias: { tokens: Int32Array.of(1), values: new Float32Array(2) } }), 'invalid_config'],
    ]
    for (const [value, code] of cases) expect([value, await submit(engine, value)]).toEqual([value, code])
    await engine.close()
  })

  it('ignores aborts of unknown, finished and invalid ids', async () => {
    const reasons: number[] = []
    const engine = await openUnchecked(config, (rows: Int32Array) => {
      for (let at = 0; at < rows.length; at += EVENT_WIDTH)
        if (rows[at] === EVENT.FINISH) reasons.push(rows[at + 3] ?? 0)
    })
    engine.submit(request({ maxTokens: 50 }) as never)
    for (const id of [7, -1, 2 ** 31 - 1, -(2 ** 31), 2 ** 32, 2 ** 40, 1e300, 0.5, Number.NaN]) {
      engine.abort(id)
      // Invalid branch ids of a running request: clients can send them.
      engine.abort(1, id)
    }
    await expect.poll(() => reasons).toHaveLength(1)
    expect(reasons).not.toContain(FINISH.ABORT)
    for (const id of [1, 1]) engine.abort(id)
    expect(await codeOf(() => engine.abort('1' as never))).toBe('invalid_request')
    await engine.close()
  })

  it('refuses requests when it is closed, and can be closed again', async () => {
    const engine = await openUnchecked(config, () => {})
    await Promise.all([engine.close(), engine.close()])
    await engine.close()
    expect(await submit(engine, request({}))).toBe('closed')
    engine.abort(1)
    expect(engine.stats().runningRequests).toBe(0)
  })

  it('can be called from its own callback', { timeout: 60_000 }, async () => {
    let finished = 0
    let closed: Promise<void> | undefined
    const engine: Engine = await openUnchecked(config, (rows: Int32Array) => {
      for (let at = 0; at < rows.length; at += EVENT_WIDTH) {
        if (rows[at] !== EVENT.FINISH) continue
        finished++
        engine.stats()
        engine.abort(finished)
        if (finished < 5) engine.submit(engineRequest({ id: finished + 1 }))
        else closed = engine.close()
      }
    })
    engine.submit(engineRequest({ id: 1 }))
    await expect.poll(() => closed !== undefined, { timeout: 30_000 }).toBe(true)
    await closed
    expect(finished).toBe(5)
  })

  it('lets the process exit without close', () => {
    const script = `
      const { load, start } = require(${JSON.stringify(ADDON)})
      const text = { bytes: new Uint8Array(), offsets: new Int32Array(), markers: new Int32Array(), dropsLeadingSpace: false, mendsJoints: false }
      load(${JSON.stringify(config)}).then((model) => {
        const engine = start(model, text, () => process.exit(7))
        engine.submit({ ...${JSON.stringify(engineRequest({ id: 1 }))}, prompt: Int32Array.of(1), stopTokens: new Int32Array(),
          logitBias: { tokens: new Int32Array(), values: new Float32Array() }, branches: [] })
      })`
    let status: unknown
    try {
      execFileSync(process.execPath, ['-e', script])
    } catch (error) {
      status = error instanceof Error && 'status' in error ? error.status : error
    }
    expect(status).toBe(7)
  })
})

describe('log-probabilities through the boundary', () => {
  it('follow their token as float32 bits', async () => {
    const rows: number[][] = []
    let finish: (reason: number) => void = () => {}
    const finished = new Promise<number>((resolve) => {
      finish = resolve
    })
    const engine = await openEngine({ ...config, dtype: 'f32' } satisfies EngineConfig, (events) => {
      for (let at = 0; at < events.length; at += EVENT_WIDTH)
        rows.push([...events.subarray(at, at + EVENT_WIDTH)])
      const last = rows.at(-1)
      if (last?.[0] === EVENT.FINISH) finish(last[3] ?? 0)
    })
    engine.submit(engineRequest({ id: 1, maxTokens: 5, logprobs: 2 }))
    expect([FINISH.LENGTH, FINISH.STOP]).toContain(await finished)
    await engine.close()
    const floats = new Float32Array(1)
    const logprob = (bits: number) => {
      new Int32Array(floats.buffer)[0] = bits
      return floats[0] ?? Number.NaN
    }
    rows.forEach(([kind, , , token], at) => {
      if (kind !== EVENT.TOKEN) return
      const [chosen, first, second] = rows.slice(at + 1, at + 4)
      expect(chosen?.slice(0, 4)).toEqual([EVENT.LOGPROB, 1, 0, token])
      expect(first?.[3]).toBe(token) // greedy sampling without banned tokens
      expect(logprob(first?.[4] ?? 0)).toBe(logprob(chosen?.[4] ?? 0))
      expect(logprob(first?.[4] ?? 0)).toBeLessThanOrEqual(0)
      expect(logprob(second?.[4] ?? 0)).toBeLessThanOrEqual(logprob(first?.[4] ?? 0))
    })
    expect(rows.filter(([kind]) => kind === EVENT.TOKEN).length).toBeGreaterThan(0)
  })
})
