import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { readConfig } from '../../gpu-node/checkpoint/config.ts'
import type { RotaryEmbedding } from '../../gpu-node/engine/engine-config.ts'
import { StartupError } from '../../gpu-node/startup-error.ts'
import { expectSameRope } from '../support/same-rope.ts'
import { type Json, tinyConfig } from '../support/tiny-checkpoint.ts'

const folder = mkdtempSync(join(tmpdir(), 'apar-rope-'))
afterAll(() => rmSync(folder, { recursive: true }))

function read(fields: Json) {
  writeFileSync(
    join(folder, 'config.json'),
    JSON.stringify({ ...tinyConfig(), rope_theta: undefined, ...fields }),
  )
  return readConfig(folder)
}

function refusal(fields: Json): string {
  try {
    read(fields)
  } catch (error) {
    if (error instanceof StartupError) return error.message
    throw error
  }
  throw new Error('the configuration was accepted')
}

const golden: Record<string, { config: Json; rope: RotaryEmbedding }> = JSON.parse(
  readFileSync(join(import.meta.dirname, '../golden/rope/frequencies.json'), 'utf8'),
)

describe('frequencies and factor are those of transformers', () => {
  test.each(Object.entries(golden))('%s', (_, { config, rope }) => {
    expectSameRope(read(config).shape.rope, rope)
  })
})

const YARN = { type: 'yarn', factor: 4, original_max_position_embeddings: 64 }
const yarn = read({ rope_scaling: YARN }).shape.rope

test('both spellings say the same, together too', () => {
  const { type, ...rest } = YARN
  const parameters = { rope_type: type, rope_theta: 10_000, ...rest }
  expect(read({ rope_parameters: parameters }).shape.rope).toEqual(yarn)
  expect(read({ rope_scaling: YARN, rope_parameters: parameters }).shape.rope).toEqual(yarn)
  expect(refusal({ rope_scaling: YARN, rope_parameters: { ...parameters, factor: 2 } })).toMatch(
    'rope_parameters.factor: rope_scaling says something else',
  )
})

test('the base inside rope_parameters counts before the one beside it', () => {
  expect(read({ rope_theta: 7, rope_parameters: { rope_theta: 500 } }).shape.rope.theta).toBe(500)
  expect(read({ rope_theta: 7, rope_parameters: { rope_type: 'default' } }).shape.rope.theta).toBe(7)
  expect(read({}).shape.rope.theta).toBe(10_000)
})

test('types of layers may not differ', () => {
  const perType = (sliding: unknown) => ({
    rope_parameters: { full_attention: { ...YARN, rope_theta: 10_000 }, sliding_attention: sliding },
  })
  expect(read(perType({ rope_theta: 10_000, ...YARN })).shape.rope).toEqual(yarn)
  for (const other of [{ ...YARN, rope_theta: 20_000 }, null, 'none'])
    expect(refusal(perType(other))).toMatch('rope_parameters: rotary embeddings that differ')
})

test('dynamic scaling is served as long as it scales nothing, and says so', () => {
  const { shape, warnings } = read({ rope_scaling: { type: 'dynamic', factor: 2 } })
  expect(shape).toMatchObject({ contextTokens: 256, rope: read({}).shape.rope })
  expect(warnings).toEqual([
    expect.stringMatching(
      /config\.json: rope_scaling: dynamic scaling begins after 256 tokens: the context ends/,
    ),
  ])
  const original = { type: 'dynamic', factor: 2, original_max_position_embeddings: 100 }
  expect(read({ rope_scaling: original }).shape.contextTokens).toBe(100)
})

test('yarn that reaches beyond the context says so', () => {
  const { shape, warnings } = read({ rope_scaling: { ...YARN, factor: 8 } })
  expect(shape.contextTokens).toBe(256)
  expect(warnings).toEqual([expect.stringMatching(/rope_scaling: reaches 512 tokens, but .* 256$/)])
  expect(read({ rope_scaling: YARN }).warnings).toEqual([])
})

test('a field that its type does not read is named in a warning', () => {
  const { warnings } = read({ rope_scaling: { type: 'linear', factor: 2, beta_fast: 16, finetuned: true } })
  expect(warnings).toEqual([
    expect.stringMatching(/rope_scaling\.beta_fast: is not read for scaling of type linear/),
  ])
})

describe('what is not computed is refused by its name', () => {
  const llama3 = { type: 'llama3', factor: 8, low_freq_factor: 1, high_freq_factor: 4 }
  test.each([
    [
      'rope_scaling.type: only default, linear, dynamic, llama3, yarn are computed, not longrope',
      { type: 'longrope' },
    ],
    ['rope_scaling.rope_type: only', { rope_type: 'proportional' }],
    ['rope_scaling.type: rope_type is yarn', { ...YARN, rope_type: 'yarn', type: 'linear' }],
    ['rope_scaling.factor: is missing', { type: 'linear' }],
    ['rope_scaling.factor: the type of scaling is missing', { factor: 2 }],
    ['rope_scaling.low_freq_factor: is missing', { ...llama3, low_freq_factor: null }],
    ['rope_scaling.high_freq_factor: must be larger', { ...llama3, high_freq_factor: 1 }],
    [
      'rope_scaling.mrope_section: [16,24,24] is not computed',
      { type: 'default', mrope_section: [16, 24, 24] },
    ],
    ['rope_scaling.long_factor: [1,2] is not computed', { ...YARN, long_factor: [1, 2] }],
    ['rope_scaling.factor: ', { type: 'linear', factor: 0 }],
    ['rope_scaling.factor: ', { type: 'linear', factor: 'four' }],
    ['rope_scaling.truncate: ', { ...YARN, truncate: null }],
    ['rope_scaling: gives frequencies that are no numbers', { ...YARN, rope_theta: 1, factor: 1e-300 }],
  ])('%s', (message, rope_scaling) => {
    expect(refusal({ rope_scaling })).toContain(`config.json: ${message}`)
  })

  test.each([0.3, 0.01, 1.5])('partial_rotary_factor %d', (factor) => {
    expect(refusal({ hidden_size: 20, partial_rotary_factor: factor })).toMatch(
      'elements of a head cannot be rotated',
    )
  })
})
