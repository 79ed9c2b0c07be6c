import { expect, it } from 'vitest'
import { z } from 'zod'
import { AparError } from '../../shared/errors.ts'
import { MAX_DEPTH, parse, parseStrangersJson } from '../../shared/parse.ts'

function refusal(input: unknown): AparError {
  try {
    parse(z.strictObject({ map: z.record(z.string().regex(/^\d$/), z.number()).optional() }), input)
  } catch (error) {
    if (error instanceof AparError) return error
  }
  throw new Error('was not refused')
}

it.each([
  ['a long key', { ['k'.repeat(1_000_000)]: 1 }],
  ['a long key below another', { map: { ['k'.repeat(1_000_000)]: 1 } }],
  ['many keys', Object.fromEntries(Array.from({ length: 100_000 }, (_, index) => [`k${index}`, 1]))],
])('an error is short, whatever the body has: %s', (_, input) => {
  const { message, param = '' } = refusal(input)
  expect(message).toMatch(/^(map\.)?k.*(\.\.\.|is not a known field|Invalid key in record)$/)
  expect(message.length).toBeLessThan(1_000)
  expect(param.length).toBeLessThan(300)
})

it('a short key stands in the error as it is', () => {
  expect(refusal({ x: 1 })).toMatchObject({ param: 'x', message: 'x: is not a known field' })
})

const nested = (levels: number) => `${'{"a":'.repeat(levels)}1${'}'.repeat(levels)}`

it('takes JSON as deep as it may be, and no deeper', () => {
  expect(parseStrangersJson(nested(MAX_DEPTH))).toHaveProperty('a.a.a')
  for (const levels of [MAX_DEPTH + 1, 5000, 20_000]) {
    const text = `{"fine":{},"deep":[${nested(levels - 2)}]}`
    expect(() => parseStrangersJson(text)).toThrow(expect.objectContaining({ param: 'deep' }))
  }
})
