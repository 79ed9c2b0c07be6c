import { describe, expect, test } from 'vitest'
import { ChatCompletionRequest } from '../../shared/openai.ts'
import { problemOf, SCHEMA_LIMITS } from '../../shared/protocol/answer-schema.ts'
import { outputFormatOf } from '../../shared/requests/answer-format.ts'
import { parseBody } from '../../shared/requests/body.ts'

const nested = (depth: number): object => (depth <= 1 ? {} : { type: 'array', items: nested(depth - 1) })
const object = (more: object) => ({ type: 'object', properties: { a: {} }, ...more })

describe('a schema is refused, with the place of what cannot be served', () => {
  test.each<[string, unknown]>([
    ['not', { not: {} }],
    ['properties.a.if', { type: 'object', properties: { a: { if: {} } } }],
    ['uniqueItems', { type: 'array', uniqueItems: true }],
    ['items.contains', { type: 'array', items: { type: 'array', contains: {} } }],
    ['minimum', { type: 'string', minimum: 1 }],
    ['multipleOf', { type: 'number', multipleOf: 0.5 }],
    ['multipleOf', { type: 'integer', multipleOf: 5 }],
    ['multipleOf', { type: 'integer', multipleOf: 5, minimum: 0, maximum: 10_001 }],
    ['multipleOf', { type: 'integer', multipleOf: 1.5, minimum: 0, maximum: 9 }],
    ['pattern', { type: 'string', pattern: '^[a-z]+(-[a-z]+)*$', maxLength: 30 }],
    ['pattern', { type: 'string', pattern: '^(ab)*$', minLength: 1 }],
    ['pattern', { type: 'string', pattern: '^(?!b)a+$', minLength: 2 }],
    ['pattern', { type: 'string', pattern: '^a{4}$', maxLength: 3 }],
    ['minProperties', { type: 'object', minProperties: 2 }],
    ['minProperties', { type: 'object', additionalProperties: { type: 'null' }, minProperties: 2 }],
    ['minProperties', { type: 'object', patternProperties: { '^a': {} }, minProperties: 2 }],
    ['minProperties', { type: 'object', propertyNames: { pattern: '^[a-c]$' }, minProperties: 3 }],
    ['format', { type: 'string', format: 'email', maxLength: 40 }],
    ['format', { type: 'string', format: 'date', minLength: 11 }],
    ['format', { type: 'string', format: 'uri', maxLength: 200 }],
    ['format', { type: 'string', format: 'regex' }],
    ['properties', { $ref: '#/$defs/a', properties: {}, $defs: { a: {} } }],
    ['properties', { anyOf: [{}], properties: {} }],
    ['oneOf', { anyOf: [{}], oneOf: [{}] }],
    ['allOf', { allOf: [{}, {}] }],
    ['anyOf.1.type', { anyOf: [{}, { type: 'text' }] }],
    ['$ref', { $ref: 'https://example.com/schema' }],
    ['$ref', { $ref: '#/$defs/b', $defs: { a: {} } }],
    ['$ref', { $ref: '#' }],
    ['$defs.a.$ref', { $defs: { a: { $ref: '#/$defs/b' }, b: { $ref: '#/$defs/a' } } }],
    ['required.0', object({ required: ['b'] })],
    ['required.0', { type: 'object', propertyNames: { enum: ['a'] }, required: ['b'] }],
    ['additionalProperties', object({ additionalProperties: { type: 'integer' } })],
    ['patternProperties', { type: 'object', patternProperties: {}, additionalProperties: {} }],
    ['propertyNames', object({ propertyNames: {} })],
    ['patternProperties', object({ patternProperties: { '^b': {} } })],
    ['enum', { enum: [1, 'a'], type: 'integer' }],
    ['enum', { enum: [] }],
    ['type', { minLength: 1 }],
    ['maxLength', { type: 'string', maxLength: SCHEMA_LIMITS.length + 1 }],
    ['maxItems', { type: 'array', maxItems: SCHEMA_LIMITS.items + 1 }],
    ['minimum', { type: 'integer', minimum: 2 ** 60 }],
    ['items', { type: 'array', items: [{}], prefixItems: [{}] }],
    ['items.0.not', { type: 'array', items: [{ not: {} }] }],
    ['items.1', { type: 'array', items: [{}, 7] }],
    ['items.0', { type: 'array', items: [true] }],
    ['additionalItems.not', { type: 'array', items: [{}], additionalItems: { not: {} } }],
    ['items', { type: 'object', properties: {}, items: {} }],
    ['properties.a', { type: 'object', properties: { a: false } }],
    ['', { const: 'x'.repeat(SCHEMA_LIMITS.chars) }],
  ])('%s', (path, schema) => {
    expect(problemOf(schema)?.path.join('.')).toBe(path)
  })

  test('of too many levels, or too many schemas', () => {
    expect(problemOf(nested(SCHEMA_LIMITS.depth))).toBeUndefined()
    expect(problemOf(nested(SCHEMA_LIMITS.depth + 1))?.message).toContain('deeper')
    const wide = (count: number) => ({ anyOf: Array.from({ length: count }, () => ({})) })
    expect(problemOf(wide(SCHEMA_LIMITS.schemas - 1))).toBeUndefined()
    expect(problemOf(wide(SCHEMA_LIMITS.schemas))?.message).toContain('schema')
  })
})

describe('the format of a body', () => {
  const body = { model: 'demo', messages: [{ role: 'user', content: 'x' }] }
  const formatOf = (fields: object) =>
    outputFormatOf(parseBody(ChatCompletionRequest, JSON.stringify({ ...body, ...fields })))

  test.each<[string, object, object]>([
    ['response_format', { response_format: { type: 'json_object' } }, { type: 'json_schema' }],
    [
      'response_format',
      {
        response_format: {
          type: 'json_schema',
          json_schema: { name: 'n', strict: null, schema: { const: null } },
        },
      },
      { type: 'json_schema', schema: { const: null } },
    ],
    [
      'response_format',
      { response_format: { type: 'json_object', schema: { const: null } } },
      { type: 'json_schema', schema: { const: null } },
    ],
    ['guided_json', { guided_json: '{"enum": [null, 1]}' }, { schema: { enum: [null, 1] } }],
    ['json_schema', { json_schema: { const: null } }, { schema: { const: null } }],
    ['guided_regex', { guided_regex: 'a+' }, { type: 'regex', pattern: 'a+' }],
    ['guided_choice', { guided_choice: ['a', 'b'] }, { type: 'choice', choices: ['a', 'b'] }],
    ['guided_grammar', { guided_grammar: 'root ::= "a"' }, { type: 'grammar', grammar: 'root ::= "a"' }],
    ['structured_outputs.choice', { structured_outputs: { choice: ['a'], regex: null } }, { choices: ['a'] }],
    [
      'structured_outputs.json',
      { structured_outputs: { json: { const: null } } },
      { schema: { const: null } },
    ],
  ])('is in %s: %j', (field, fields, format) => {
    expect(formatOf(fields)).toMatchObject({ field, format })
  })

  test.each([{}, { response_format: { type: 'text' } }, { grammar: '' }, { guided_json: null }])(
    'is none in %j',
    (fields) => {
      expect(formatOf(fields)).toBeUndefined()
    },
  )

  test('is in one field only', () => {
    const fields = { guided_regex: 'a', structured_outputs: { regex: 'b' } }
    expect(() => formatOf(fields)).toThrow(expect.objectContaining({ param: 'structured_outputs.regex' }))
  })

  test.each([
    [{ guided_json: { type: 'array', uniqueItems: true } }, 'guided_json.uniqueItems'],
    [
      {
        response_format: { type: 'json_schema', json_schema: { schema: { properties: { a: { not: {} } } } } },
      },
      'response_format.json_schema.schema.properties.a.not',
    ],
    [{ structured_outputs: { structural_tag: '{}' } }, 'structured_outputs.structural_tag'],
  ])('names what cannot be served: %j', (fields, param) => {
    expect(() => formatOf(fields)).toThrow(expect.objectContaining({ code: 'invalid_request', param }))
  })
})
