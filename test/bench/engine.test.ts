import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { agreement } from '../../bench/engine/agreement.ts'
import { CASES, type EngineCase } from '../../bench/engine/cases.ts'
import { floorRate, matrixElements, stepBytes } from '../../bench/engine/floor.ts'
import { SHAPES } from '../../bench/engine/random-llama.ts'
import { type Sample, summarise } from '../../bench/engine/summary.ts'
import { llamaTensors } from '../../gpu-node/checkpoint/llama-tensors.ts'

/** Schema of a case in the bench's JSON output. */
const BenchCase = z.strictObject({
  case: z.string().min(1),
  value: z.number(),
  unit: z.enum(['tok/s', 'x', 'share']),
  better: z.literal('higher'),
  goal: z.number().nullable(),
  floor: z.number().optional(),
  peer: z.number().optional(),
  ofFloor: z.number().optional(),
  ratio: z.number().optional(),
  low: z.number(),
  high: z.number(),
})

function named(name: string): EngineCase {
  const test = CASES.find((one) => one.name === name)
  if (!test) throw new Error(`no case ${name}`)
  return test
}

function samples(name: string, runs: readonly Partial<Sample>[]): Sample[] {
  return runs.map((run, repetition) => ({ bench: 'engine', case: name, repetition, ours: 1, ...run }))
}

const SINGLE = '110M bf16, single stream'
const BESIDE = '110M bf16, single stream beside a busy process'

describe('summary of samples', () => {
  test('ratios are computed within a repetition, then their median', () => {
    const rows = summarise(
      named(SINGLE),
      samples(SINGLE, [
        { ours: 100, theirs: 50, floor: 100 },
        { ours: 10, theirs: 10, floor: 20 },
        { ours: 90, theirs: 30, floor: 100 },
      ]),
    )
    expect(rows).toEqual([
      {
        ...{ case: SINGLE, value: 90, low: 10, high: 100, unit: 'tok/s', better: 'higher', goal: null },
        ...{ floor: 100, ofFloor: 0.9, peer: 30, ratio: 2 },
      },
      {
        ...{ case: `${SINGLE}: times the peer`, value: 2, low: 1, high: 3 },
        ...{ unit: 'x', better: 'higher', goal: 1 },
      },
      {
        ...{ case: `${SINGLE}: share of the bandwidth`, value: 0.9, low: 0.5, high: 1 },
        ...{ unit: 'share', better: 'higher', goal: 0.9 },
      },
    ])
  })

  test('without a peer a row has neither peer nor ratio', () => {
    const rows = summarise(named(SINGLE), samples(SINGLE, [{ ours: 100, floor: 200 }]))
    expect(rows.map((row) => row.case)).toEqual([SINGLE, `${SINGLE}: share of the bandwidth`])
    expect(rows.flatMap((row) => Object.keys(row))).not.toContain('peer')
    expect(rows.flatMap((row) => Object.keys(row))).not.toContain('ratio')
  })

  test('beside a busy process the value is the share kept, and its goal applies to our side only', () => {
    expect(summarise(named(BESIDE), samples(BESIDE, [{ ours: 0.6, theirs: 0.2 }]))).toMatchObject([
      { case: BESIDE, value: 0.6, unit: 'share', goal: 0.5, peer: 0.2 },
    ])
  })

  test('every row of every case matches the schema', () => {
    const rows = CASES.flatMap((each) =>
      summarise(each, samples(each.name, [{ ours: 3, theirs: 2, floor: 4 }])),
    )
    for (const row of rows) expect(BenchCase.parse(row)).toEqual(row)
    expect(new Set(rows.map((row) => row.case)).size).toBe(rows.length)
    expect(rows.filter(({ goal }) => goal !== null).length).toBe(CASES.length + 6)
  })
})

describe('floors', () => {
  test.each(Object.entries(SHAPES))(
    '%s: matrixElements counts the matrices of the checkpoint',
    (_, shape) => {
      const matrices = [...llamaTensors(shape)].filter(([name, size]) => {
        const isLookedUp = name === 'model.embed_tokens.weight' && !shape.tieWordEmbeddings
        return size.length === 2 && !isLookedUp
      })
      const elements = matrices.reduce((sum, [, [rows = 0, columns = 0]]) => sum + rows * columns, 0)
      expect(matrixElements(shape)).toBe(elements)
    },
  )

  test('bytes scale with the bits per weight; a shared prompt is read once for all branches', () => {
    const shape = SHAPES['110M']
    const one = named(SINGLE)
    expect(stepBytes({ ...one, dtype: 'int8' }, shape) / stepBytes(one, shape)).toBeCloseTo(34 / 64, 2)
    const many = named('110M bf16, 32 branches over 500 shared')
    const ofPrompt = (rows: number) =>
      stepBytes({ ...many, rows }, shape) - stepBytes({ ...many, rows, prompt: 0 }, shape)
    expect(ofPrompt(32)).toBe(500 * 2 * shape.numLayers * shape.hiddenSize * 2)
    expect(ofPrompt(8)).toBe(ofPrompt(32))
    expect(floorRate(one, shape, 2 * stepBytes(one, shape))).toBeCloseTo(2)
  })
})

describe('agreement of logits', () => {
  test('largest difference, relative root mean square, same most likely token', () => {
    const theirs = Float32Array.of(3, 4, 0, 1)
    expect(agreement(theirs, theirs, 2)).toEqual({ rows: 2, maxDifference: 0, relativeRms: 0, sameTop: 2 })
    const found = agreement(Float32Array.of(3, 4, 0.5, 0.25), theirs, 2)
    expect(found).toMatchObject({ rows: 2, maxDifference: 0.75, sameTop: 1 })
    expect(found.relativeRms).toBeCloseTo(Math.sqrt((0.25 + 0.5625) / 26))
  })

  test('a NaN logit counts as an infinite difference', () => {
    const found = agreement(Float32Array.of(Number.NaN, 1), Float32Array.of(1, 1), 2)
    expect(found.maxDifference).toBe(Number.POSITIVE_INFINITY)
  })

  test('logits of different sizes are refused', () => {
    expect(() => agreement(new Float32Array(4), new Float32Array(2), 2)).toThrow('4 and 2 logits')
  })
})
