import { Ajv } from 'ajv'
import { Ajv2020 } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { Grammars } from '../../gpu-node/grammar/grammars.ts'
import { openRunner } from '../../gpu-node/open-runner.ts'
import { packageRoot } from '../../gpu-node/package-root.ts'
import type { Runner } from '../../gpu-node/requests/runner.ts'
import { problemOf } from '../../shared/protocol/answer-schema.ts'
import type { StreamEvent } from '../../shared/protocol/events.ts'
import type { NodeBatch } from '../../shared/protocol/node.ts'
import { GenerateRequest } from '../../shared/protocol/request.ts'
import { randomSchema } from '../support/random-schema.ts'
import { requires } from '../support/requires.ts'

const served = requires('the grammar engine (python3 with pip)', () => Grammars.available)
const ajv = addFormats.default(new Ajv2020({ strict: false, allErrors: true }))
const olderAjv = new Ajv({ strict: false })

let runner: Runner
beforeAll(async () => {
  runner = await openRunner(`${packageRoot}/models/demo`, { threads: 1 })
}, 60_000)
afterAll(() => runner?.close())

let streams = 0

interface Answer {
  text: string
  reason: string
  batches: NodeBatch[]
}

/** What zod writes with more keywords than their meaning needs. */
const ZOD: Record<string, z.ZodType> = {
  email: z.email(),
  uuid: z.uuid(),
  url: z.url(),
  'date-time': z.iso.datetime(),
  'date-time with offsets': z.iso.datetime({ offset: true }),
  'local date-time': z.iso.datetime({ local: true }),
  date: z.iso.date(),
  time: z.iso.time(),
  ipv4: z.ipv4(),
  cidr: z.cidrv4(),
  nanoid: z.nanoid(),
  ulid: z.ulid(),
  'the beginning of a text': z.string().startsWith('ab'),
  'a text that is not empty': z
    .string()
    .min(1)
    .regex(/^[a-z]{1,9}$/),
  tuple: z.tuple([z.boolean(), z.int().min(0)]),
  'a tuple with more items': z.tuple([z.null()], z.boolean()),
  'a record of choices': z.record(z.enum(['a', 'b']), z.boolean()),
  'a union with a member that tells': z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('a'), size: z.int() }),
    z.object({ kind: z.literal('b'), note: z.string().max(5) }),
  ]),
  'one of': z.xor([z.string().max(3), z.int()]),
  'a loose object': z.looseObject({ a: z.int() }),
}

/** Settles at the end of the request. */
async function answer(fields: object, log: readonly NodeBatch[] = []): Promise<Answer> {
  const request = GenerateRequest.parse({
    model: runner.model,
    messages: [{ role: 'user', content: 'Say something' }],
    max_tokens: 600,
    temperature: 1.5,
    ...fields,
  })
  const batches: NodeBatch[] = []
  await new Promise<void>((resolve, reject) => {
    const publish = (batch: NodeBatch) => {
      batches.push(batch)
      if (batch.events.some(({ type }) => type === 'done' || type === 'error')) resolve()
    }
    runner.start(`stream-${++streams}`, request, publish, { log }).catch(reject)
  })
  const events: StreamEvent[] = [...log, ...batches].flatMap((batch) => batch.events)
  const last = events.at(-1)
  const text = events.map((event) => (event.type === 'delta' ? event.text : '')).join('')
  return { text, reason: last?.type === 'done' ? last.reason : JSON.stringify(last), batches }
}

function ofSchema(schema: object) {
  return { output_format: { type: 'json_schema', schema } }
}

const ANIMAL = (kind: string) => ({
  type: 'object',
  properties: { kind: { const: kind, type: 'string' }, legs: { type: 'integer' } },
  required: ['kind', 'legs'],
})

/** A schema for each keyword that can be served. */
const SCHEMAS: Record<string, object> = {
  type: { type: ['string', 'integer', 'null', 'array', 'object'], maxLength: 3, maxItems: 2 },
  enum: { enum: ['é', '日本', '"q"', 'a\nb', '\\', '\u0007', 1.5, null, { a: [] }] },
  const: { const: { a: [1, 2, { b: null }], c: 1.5 } },
  'no properties': { type: 'object', maxProperties: 1 },
  'an open object': { type: 'object', additionalProperties: { type: 'integer' }, maxProperties: 1 },
  minProperties: {
    type: 'object',
    properties: { a: { type: 'null' }, b: { type: 'null' }, c: { type: 'null' }, d: { type: 'null' } },
    ...{ minProperties: 2, maxProperties: 3 },
  },
  patternProperties: { type: 'object', patternProperties: { '^a[0-9]$': { type: 'integer' } } },
  propertyNames: { type: 'object', propertyNames: { pattern: '^[a-c]{2}$' }, maxProperties: 2 },
  'any items': { type: 'array', maxItems: 1 },
  prefixItems: { type: 'array', prefixItems: [{ type: 'integer' }, { type: 'boolean' }] },
  'prefixItems and items': {
    ...{ type: 'array', prefixItems: [{ type: 'integer' }], items: { type: 'null' } },
    maxItems: 3,
  },
  'a tuple of an older draft': {
    $schema: 'http://json-schema.org/draft-07/schema#',
    type: 'object',
    properties: {
      pair: {
        ...{ type: 'array', items: [{ type: 'integer' }, { type: 'boolean' }], additionalItems: false },
        ...{ minItems: 2, maxItems: 2 },
      },
      first: { $ref: '#/properties/pair/items/0' },
    },
    required: ['pair', 'first'],
  },
  $ref: {
    $ref: '#/$defs/a%20node',
    $defs: {
      'a node': {
        type: 'object',
        properties: {
          value: { type: 'integer' },
          nodes: { type: 'array', items: { $ref: '#/$defs/a%20node' }, maxItems: 2 },
        },
        required: ['value', 'nodes'],
      },
    },
  },
  oneOf: {
    oneOf: ['a', 'b'].map((kind) => ({
      type: 'object',
      properties: { kind: { const: kind }, [kind]: { type: 'boolean' } },
      required: ['kind', kind],
    })),
  },
  anyOf: { anyOf: [{ type: 'null' }, { type: 'integer' }] },
  allOf: { allOf: [{ type: 'boolean' }] },
  'a number': { type: 'number', minimum: 0.5, exclusiveMaximum: 7.25 },
  'a number with one bound': { type: 'number', minimum: -1.5 },
  integer: { type: 'integer' },
  'an integer between': { type: 'integer', exclusiveMinimum: 3, maximum: 5 },
  multipleOf: { type: 'integer', multipleOf: 7, minimum: -50, maximum: 5000 },
  maxLength: { type: 'string', minLength: 2, maxLength: 5 },
  'an integer between fractions': { type: 'integer', minimum: 0.5, exclusiveMaximum: 3 },
  'a 64-bit integer': { type: 'integer', format: 'int64', minimum: -(2 ** 63), maximum: 2 ** 63 },
  pattern: { type: 'string', pattern: '^(a|bc){1,4}d?[^x]$' },
  'a pattern of more than nothing': { type: 'string', pattern: '^[a-z]{1,9}$', minLength: 1 },
  'a pattern with lengths': {
    type: 'string',
    pattern: '^[a-zA-Z_][a-zA-Z0-9_]*$',
    minLength: 2,
    maxLength: 9,
  },
  'a pattern with lengths that it has anyway': { type: 'string', pattern: '^(a|bc){1,4}$', maxLength: 64 },
  'a pattern with a long length': { type: 'string', pattern: '^[a-z]*$', minLength: 130, maxLength: 255 },
  'an address with an end': { type: 'string', format: 'uri', minLength: 1, maxLength: 2083 },
  'keys of a pattern with lengths': {
    ...{ type: 'object', propertyNames: { pattern: '^[a-z]+$', maxLength: 4 }, maxProperties: 2 },
    additionalProperties: { type: 'integer' },
  },
  'one key of any': {
    type: 'object',
    additionalProperties: { type: 'null' },
    minProperties: 1,
    maxProperties: 1,
  },
  'any number': { type: 'number' },
  'a format with lengths': { type: 'string', format: 'email', minLength: 1, maxLength: 254 },
  'unheard-of words': { type: 'string', format: 'password', minLength: 2, maxLength: 4, 'x-order': 1 },
  'properties and any others': { ...ANIMAL('cat'), additionalProperties: true },
  'patternProperties and no others': {
    ...{ type: 'object', patternProperties: { '^a[0-9]$': { type: 'integer' } } },
    additionalProperties: false,
  },
  'a choice of keys': {
    ...{ type: 'object', propertyNames: { $ref: '#/$defs/side' }, additionalProperties: { type: 'integer' } },
    ...{ minProperties: 2, $defs: { side: { type: 'string', enum: ['left', 'right'] } } },
  },
  'keys that are required': {
    ...{ type: 'object', propertyNames: { enum: ['a', 'b'] }, additionalProperties: { type: 'boolean' } },
    required: ['a', 'b'],
  },
  'oneOf with a member that tells them apart': {
    oneOf: [{ $ref: '#/$defs/cat' }, { $ref: '#/$defs/dog' }],
    discriminator: { propertyName: 'kind' },
    $defs: { cat: ANIMAL('cat'), dog: ANIMAL('dog') },
  },
  'oneOf of types': { oneOf: [{ type: 'string', maxLength: 3 }, { type: 'integer' }, { type: 'null' }] },
  'a pattern without anchors': { type: 'string', pattern: 'a[0-9]' },
  ...Object.fromEntries(
    ['date', 'time', 'date-time', 'ipv4', 'ipv6', 'uuid', 'email'].map((format) => [
      format,
      { type: 'string', format },
    ]),
  ),
}

function isValid(schema: object, text: string): boolean {
  return ('$schema' in schema ? olderAjv : ajv).validate(schema, JSON.parse(text))
}

describe.skipIf(!served)('every answer is valid', () => {
  test.each(Object.entries(SCHEMAS))('with %s', { timeout: 60_000 }, async (_, schema) => {
    expect(problemOf(schema)).toBeUndefined()
    const answers = await Promise.all(
      Array.from({ length: 12 }, (_, seed) => answer({ ...ofSchema(schema), seed })),
    )
    const complete = answers.filter(({ reason }) => reason !== 'length')
    for (const { text, reason } of complete) {
      expect(reason).toBe('stop')
      expect(isValid(schema, text), text).toBe(true)
    }
    expect(complete.length).toBeGreaterThan(8)
  })

  test.each(Object.entries(ZOD))('with %s of zod', { timeout: 60_000 }, async (_, type) => {
    for (const target of ['draft-7', 'draft-2020-12'] as const) {
      const schema = z.toJSONSchema(z.object({ value: type }), { target, reused: 'ref' })
      expect(problemOf(schema)).toBeUndefined()
      const answers = await Promise.all(
        Array.from({ length: 8 }, (_, seed) => answer({ ...ofSchema(schema), seed, temperature: 0.8 })),
      )
      const complete = answers.filter(({ reason }) => reason !== 'length')
      for (const { text } of complete) {
        expect(z.object({ value: type }).safeParse(JSON.parse(text)).success, text).toBe(true)
      }
      expect(complete.length).toBeGreaterThan(0)
    }
  })

  test('with patterns of zod that would have no end for a small model', async () => {
    const older =
      "^(?!\\.)(?!.*\\.\\.)([A-Za-z0-9_'+\\-\\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\\-]*\\.)+[A-Za-z]{2,}$"
    const types = [z.email(), z.iso.datetime(), z.iso.datetime({ offset: true })]
    const schemas = types.map((type) => ({ type: 'string', pattern: z.toJSONSchema(type).pattern }))
    for (const schema of [...schemas, { type: 'string', format: 'email', pattern: older }]) {
      for (const seed of [1, 2, 3, 4, 5, 6]) {
        const { text, reason } = await answer({ ...ofSchema(schema), seed })
        expect(reason).toBe('stop')
        expect(isValid(schema, text), text).toBe(true)
      }
    }
  })

  test('with random schemas', { timeout: 1_200_000 }, async () => {
    const schemas = fc.sample(randomSchema, { numRuns: Number(process.env.APAR_SCHEMAS ?? 100), seed: 7 })
    const wrong: unknown[] = []
    let complete = 0
    for (let at = 0; at < schemas.length; at += 16) {
      await Promise.all(
        schemas.slice(at, at + 16).map(async (schema, index) => {
          expect(problemOf(schema)).toBeUndefined()
          const { text, reason } = await answer({ ...ofSchema(schema), seed: at + index })
          if (reason === 'length') return
          complete++
          if (reason !== 'stop' || !isValid(schema, text)) wrong.push({ schema, text, reason })
        }),
      )
    }
    expect(wrong).toEqual([])
    expect(complete).toBeGreaterThan(schemas.length * 0.95)
  })

  test('with a pattern, choices and a grammar', async () => {
    const formats = [
      { format: { type: 'regex', pattern: '[A-Z][a-z]{2,8} [0-9]{4}' }, fits: /^[A-Z][a-z]{2,8} [0-9]{4}$/ },
      {
        format: { type: 'choice', choices: ['yes', 'no "way"', 'a\\b\né'] },
        fits: /^(yes|no "way"|a\\b\né)$/,
      },
      {
        format: { type: 'grammar', grammar: 'root ::= word " = " [0-9]{1,3}\nword ::= "x" | "y" word' },
        fits: /^y*x = [0-9]{1,3}$/,
      },
    ]
    for (const { format, fits } of formats) {
      for (const seed of [1, 2, 3, 4, 5, 6]) {
        const { text, reason } = await answer({ output_format: format, seed })
        expect(reason).toBe('stop')
        expect(text).toMatch(fits)
      }
    }
  })
})

const LIST = {
  type: 'array',
  items: {
    type: 'object',
    properties: { name: { type: 'string', maxLength: 8 }, size: { type: 'integer' } },
    required: ['name', 'size'],
  },
  ...{ minItems: 6, maxItems: 12 },
}

describe.skipIf(!served)('a request with a format', () => {
  test('that reaches its limit has the beginning of an answer', async () => {
    const { text, reason } = await answer({ ...ofSchema(LIST), max_tokens: 12, seed: 3 })
    expect(reason).toBe('length')
    expect(text).toMatch(/^\[\{"name": "/)
    expect(() => JSON.parse(text)).toThrow()
  })

  test('gives the same answer whatever else is asked for, and whatever is drafted', async () => {
    const first = await answer({ ...ofSchema(LIST), seed: 5, speculation: 'off' })
    expect(first.reason).toBe('stop')
    for (const more of [{ speculation: 'ngram' }, { logprobs: 3 }, { branching: { max_branches: 8 } }])
      expect((await answer({ ...ofSchema(LIST), seed: 5, ...more })).text).toBe(first.text)
  })

  test('drafts tokens that are accepted', async () => {
    const { batches } = await answer({
      ...ofSchema({ ...LIST, minItems: 12 }),
      seed: 5,
      speculation: 'ngram',
    })
    const done = batches.flatMap(({ events }) => events).find(({ type }) => type === 'done')
    expect(done).toMatchObject({ usage: { apar: { speculation: { accepted: expect.any(Number) } } } })
  })

  test('ends at once when its format is complete, however many tokens it must have', async () => {
    const { text, reason } = await answer({ ...ofSchema({ const: 7 }), min_tokens: 50 })
    expect([text, reason]).toEqual(['7', 'stop'])
  })

  test('is continued by another node after any of its events', async () => {
    const whole = await answer({ ...ofSchema(LIST), seed: 9 })
    for (let kept = 1; kept < whole.batches.length; kept += 3) {
      const log = whole.batches.slice(0, kept)
      const { text, reason } = await answer({ ...ofSchema(LIST), seed: 9 }, log)
      expect([text, reason]).toEqual([whole.text, whole.reason])
    }
  })

  test.each([
    ['a pattern that is none', { type: 'regex', pattern: 'a(' }, /Regex/],
    ['a grammar that is none', { type: 'grammar', grammar: 'root ::= nothing' }, /nothing/],
    [
      'oneOf of what can be both',
      { type: 'json_schema', schema: { oneOf: [{ type: 'integer' }, { type: 'number' }] } },
      /oneOf/,
    ],
    [
      'one of the patterns in a schema, which the message has',
      {
        type: 'json_schema',
        schema: { type: 'object', properties: { a: { type: 'string', pattern: '^(?=b)' } } },
      },
      /pattern "\^\(\?=b\)": .*Lookahead/,
    ],
    [
      'a pattern with too many states',
      { type: 'regex', pattern: '[^a]{0,3000}([^b]{0,3000}c){0,300}' },
      /complex|compile|large/,
    ],
  ])('is refused for %s', { timeout: 60_000 }, async (_, output_format, message) => {
    await expect(answer({ output_format })).rejects.toMatchObject({
      code: 'invalid_request',
      param: 'output_format',
      message: expect.stringMatching(message),
    })
    expect((await answer(ofSchema({ const: 1 }))).text).toBe('1')
  })
})
