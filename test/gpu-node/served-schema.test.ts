import { describe, expect, test } from 'vitest'
import { requireServed, servedSchema } from '../../gpu-node/tools/served-schema.ts'
import { problemOf } from '../../shared/protocol/answer-schema.ts'

const object = (properties: object, more: object = {}) => ({ type: 'object', properties, ...more })

describe('the schema of arguments', () => {
  test.each<[string, Record<string, unknown> | undefined, object]>([
    ['none', undefined, object({})],
    ['what can be served', object({ a: { type: 'string' } }), object({ a: { type: 'string' } })],
    [
      'a keyword beside',
      object({ a: { type: 'array', uniqueItems: true } }),
      object({ a: { type: 'array' } }),
    ],
    [
      'an unknown keyword, deep',
      object({ a: object({ b: { type: 'string', encoding: 'x', title: 'B' } }) }),
      object({ a: object({ b: { type: 'string', title: 'B' } }) }),
    ],
    ['false', object({ a: false, b: { type: 'null' } }), object({ a: {}, b: { type: 'null' } })],
    ['a type that is missing', object({ a: { minLength: 1 } }), object({ a: {} })],
    [
      'alternatives beside a type',
      object({ a: { type: 'string', anyOf: [{ type: 'string' }, { not: {} }] } }),
      object({ a: { anyOf: [{ type: 'string' }, {}] } }),
    ],
    ['open objects', object({ a: {} }, { additionalProperties: { type: 'null' } }), object({ a: {} })],
    [
      'a tuple of an older draft',
      object({ a: { type: 'array', items: [{ type: 'null' }, { type: 'string', not: {} }] } }),
      object({ a: { type: 'array', items: [{ type: 'null' }, { type: 'string' }] } }),
    ],
    [
      'a tuple with a schema that cannot be',
      object({ a: { type: 'array', items: [false, { type: 'null' }] } }),
      object({ a: { type: 'array', items: [{}, { type: 'null' }] } }),
    ],
    [
      'a required property that is unknown',
      object({ a: {} }, { required: ['a', 'b'] }),
      object({ a: {} }, { required: ['a'] }),
    ],
    ['no type', { properties: { a: { type: 'null' } } }, object({ a: { type: 'null' } })],
    ['another type', { type: 'string' }, { type: 'object' }],
    ['alternatives at the root', { anyOf: [object({})] }, { type: 'object' }],
    [
      'a reference at the root',
      { $ref: '#/$defs/A', $defs: { A: object({ a: { $ref: '#/$defs/B' } }), B: { type: 'null' } } },
      object(
        { a: { $ref: '#/$defs/B' } },
        { $defs: { A: object({ a: { $ref: '#/$defs/B' } }), B: { type: 'null' } } },
      ),
    ],
    ['a reference to nothing', object({ a: { $ref: '#/x' } }), object({ a: {} })],
  ])('is served with %s', (_, parameters, expected) => {
    const before = structuredClone(parameters)
    const served = servedSchema(parameters)
    expect(served).toEqual(expected)
    expect(problemOf(served)).toBeUndefined()
    expect(parameters).toEqual(before)
  })

  test('is any object where too much is left out', () => {
    const properties = Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`p${i}`, { not: {} }]))
    expect(servedSchema(object(properties))).toEqual({ type: 'object' })
  })

  test('of a strict tool is refused with the keyword', () => {
    const strict = { name: 'f', strict: true, parameters: object({ a: { not: {} } }) }
    expect(() => requireServed([{ name: 'g' }, strict])).toThrow('tools.1.parameters.properties.a.not')
    expect(() => requireServed([{ ...strict, strict: false }])).not.toThrow()
    expect(() => requireServed([{ ...strict, parameters: { type: 'string' } }])).toThrow('must be object')
  })
})
