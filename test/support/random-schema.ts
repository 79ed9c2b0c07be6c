import fc from 'fast-check'

const text = fc.string({ maxLength: 6, unit: 'grapheme' })
const key = fc.string({ minLength: 1, maxLength: 5 }).filter((name) => name !== '__proto__')
const value = fc.oneof(text, fc.integer({ min: -1e6, max: 1e6 }), fc.boolean(), fc.constant(null))

/** Two numbers in order. */
function range(most: number) {
  return fc.tuple(fc.nat(most), fc.nat(most)).map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as const)
}

const stringSchema = fc.oneof(
  range(8).map(([minLength, maxLength]) => ({ type: 'string', minLength, maxLength })),
  fc
    .constantFrom(
      '^[a-z]{1,5}$',
      '^\\d{3}-\\d{4}$',
      '[A-F0-9]{2}',
      '^(yes|no)$',
      '^[^a-z]{2}$',
      '^\\w+@x\\.y$',
      '^.{1,3}$',
    )
    .map((pattern) => ({ type: 'string', pattern })),
  fc
    .tuple(fc.constantFrom('^[a-z]+$', '^[^a-z]*$', '^x\\d*$', '^.+$', '^[A-Z][\\w-]{0,20}$'), range(6))
    .map(([pattern, [least, more]]) => ({
      ...{ type: 'string', pattern },
      ...{ minLength: least, maxLength: least + more + 1 },
    })),
  fc
    .constantFrom('date', 'time', 'date-time', 'ipv4', 'uuid', 'email', 'hostname', 'ipv6', 'duration')
    .map((format) => ({ type: 'string', format })),
)
const numberSchema = fc.oneof(
  fc
    .tuple(fc.integer({ min: -500, max: 500 }), fc.nat(1000))
    .map(([minimum, width]) => ({ type: 'integer', minimum, maximum: minimum + width })),
  fc
    .tuple(fc.integer({ min: -500, max: 500 }), fc.integer({ min: 2, max: 1000 }))
    .map(([low, width]) => ({ type: 'integer', exclusiveMinimum: low, exclusiveMaximum: low + width })),
  fc
    .integer({ min: 1, max: 12 })
    .map((multipleOf) => ({ type: 'integer', multipleOf, minimum: -99, maximum: 2000 })),
  fc
    .tuple(fc.double({ min: -100, max: 100, noNaN: true }), fc.double({ min: 1, max: 50, noNaN: true }))
    .map(([low, width]) => ({ type: 'number', minimum: round(low), maximum: round(low + width) })),
  fc
    .tuple(
      fc.constantFrom('minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'),
      fc.double({ min: -1e6, max: 1e6, noNaN: true }),
    )
    .map(([bound, value]) => ({ type: 'number', [bound]: round(value) })),
  fc.constantFrom({ type: 'number' }, { type: ['number', 'null'] }),
)

function round(number: number): number {
  return Math.round(number * 100) / 100
}

const leaf = fc.oneof(
  stringSchema,
  numberSchema,
  fc.constantFrom({ type: 'boolean' }, { type: 'null' }, { type: ['boolean', 'null'] }),
  value.map((only) => ({ const: only })),
  fc.uniqueArray(value, { minLength: 1, maxLength: 4 }).map((values) => ({ enum: values })),
)

/** A schema with the keywords that can be served, of which every value is short. */
export const randomSchema: fc.Arbitrary<Record<string, unknown>> = fc.letrec<{
  schema: Record<string, unknown>
}>((tie) => ({
  schema: fc.oneof(
    { depthSize: 'small', maxDepth: 3 },
    leaf,
    fc
      .tuple(
        fc.uniqueArray(fc.tuple(key, tie('schema'), fc.boolean()), {
          maxLength: 4,
          selector: ([name]) => name,
        }),
      )
      .map(([members]) => ({
        type: 'object',
        properties: Object.fromEntries(members.map(([name, schema]) => [name, schema])),
        required: members.filter(([, , isRequired]) => isRequired).map(([name]) => name),
        additionalProperties: false,
      })),
    fc
      .tuple(tie('schema'), range(3))
      .map(([items, [minItems, maxItems]]) => ({ type: 'array', items, minItems, maxItems })),
    fc.array(leaf, { minLength: 1, maxLength: 3 }).map((prefixItems) => ({
      type: 'array',
      prefixItems,
      items: false,
      minItems: prefixItems.length,
    })),
    fc.array(tie('schema'), { minLength: 1, maxLength: 3 }).map((anyOf) => ({ anyOf })),
    tie('schema').map((only) => ({ allOf: [only] })),
  ),
})).schema
