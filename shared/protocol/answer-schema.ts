import { patternWithLengths } from './pattern-lengths.ts'

/** What an answer's schema may be: gpu nodes compile no others (docs/api.md lists the keywords). */
export const SCHEMA_LIMITS = {
  chars: 64 * 1024,
  depth: 32,
  schemas: 2048,
  items: 4096,
  length: 16_384,
} as const

type Path = (string | number)[]
export interface SchemaProblem {
  readonly path: Path
  readonly message: string
}

/** They say nothing about which values are good. */
const ANNOTATIONS: readonly string[] = [
  ...['title', 'description', 'default', 'examples', 'example', 'deprecated', 'readOnly', 'writeOnly'],
  ...['$schema', '$comment', '$id', '$anchor', '$defs', 'definitions', 'discriminator'],
  ...['contentEncoding', 'contentMediaType', 'contentSchema'],
]

/** Whether a keyword says nothing about which values are good. `x-…` are those of tools. */
export function isAnnotation(keyword: string): boolean {
  return ANNOTATIONS.includes(keyword) || keyword.startsWith('x-')
}

const BOUNDS = ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum']
const OF_TYPE: Readonly<Record<string, readonly string[]>> = {
  object: [
    ...['properties', 'required', 'additionalProperties', 'patternProperties', 'propertyNames'],
    ...['minProperties', 'maxProperties'],
  ],
  array: ['items', 'prefixItems', 'additionalItems', 'minItems', 'maxItems'],
  string: ['minLength', 'maxLength', 'pattern', 'format'],
  // Formats of numbers, such as int32, are none of JSON Schema's.
  number: [...BOUNDS, 'format'],
  integer: [...BOUNDS, 'multipleOf', 'format'],
  boolean: [],
  null: [],
}
const ALL_TYPED = new Set(Object.values(OF_TYPE).flat())
/** A schema has at most one of them, and beside it nothing else that constrains. */
const ALONE = ['$ref', 'const', 'enum', 'anyOf', 'oneOf', 'allOf'] as const
const MOST_BETWEEN = 10_000
const COUNTS = ['minItems', 'maxItems', 'minLength', 'maxLength', 'minProperties', 'maxProperties']
/** Of JSON Schema, with the lengths of the texts that are written. */
const FORMATS: ReadonlyMap<string, { readonly least: number; readonly most: number }> = new Map([
  ['date', { least: 10, most: 10 }],
  ['time', { least: 9, most: 24 }],
  ['date-time', { least: 20, most: 35 }],
  ['duration', { least: 3, most: Number.POSITIVE_INFINITY }],
  ['email', { least: 6, most: 254 }],
  ['hostname', { least: 1, most: 253 }],
  ['ipv4', { least: 7, most: 15 }],
  ['ipv6', { least: 2, most: 45 }],
  ['uuid', { least: 36, most: 36 }],
  // Of those that have to have an end (gpu-node/grammar/formats.ts).
  ['uri', { least: 3, most: 445 }],
  ['uri-reference', { least: 0, most: Number.POSITIVE_INFINITY }],
  ['uri-template', { least: 0, most: Number.POSITIVE_INFINITY }],
  ['json-pointer', { least: 0, most: Number.POSITIVE_INFINITY }],
  ['relative-json-pointer', { least: 1, most: Number.POSITIVE_INFINITY }],
])
/** Others, which validators ignore, are ignored. */
const FORMATS_WITHOUT_GRAMMAR = ['idn-email', 'idn-hostname', 'iri', 'iri-reference', 'regex']

/** What of the schema cannot be served; undefined when all of it can. */
export function problemOf(schema: unknown): SchemaProblem | undefined {
  try {
    if (JSON.stringify(schema).length > SCHEMA_LIMITS.chars)
      refuse([], `is longer than ${SCHEMA_LIMITS.chars} characters`)
    new Check(schema).schema(schema, [], 1)
    return undefined
  } catch (thrown) {
    if (thrown instanceof Refusal) return { path: thrown.path, message: thrown.message }
    throw thrown
  }
}

class Refusal extends Error {
  readonly path: Path

  constructor(path: Path, message: string) {
    super(message)
    this.path = path
  }
}

function refuse(path: Path, message: string): never {
  throw new Refusal(path, message)
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

class Check {
  readonly #root: unknown
  #schemas = 0

  constructor(root: unknown) {
    this.#root = root
  }

  schema(schema: unknown, path: Path, depth: number): void {
    if (++this.#schemas > SCHEMA_LIMITS.schemas) refuse(path, `is the ${SCHEMA_LIMITS.schemas + 1}th schema`)
    if (depth > SCHEMA_LIMITS.depth) refuse(path, `is deeper than ${SCHEMA_LIMITS.depth} schemas`)
    if (schema === true) return
    if (schema === false) refuse(path, 'false, which no value fits, cannot be served')
    if (!isObject(schema)) refuse(path, 'is no schema: must be an object')
    for (const container of ['$defs', 'definitions'])
      this.#schemasOf(schema[container], [...path, container], depth)
    const alone = ALONE.filter((keyword) => keyword in schema)
    const [first] = alone
    if (first !== undefined) this.#alone(schema, first, alone, path, depth)
    else this.#typed(schema, path, depth)
  }

  #alone(
    schema: Record<string, unknown>,
    keyword: (typeof ALONE)[number],
    all: readonly string[],
    path: Path,
    depth: number,
  ): void {
    const isValue = keyword === 'const' || keyword === 'enum'
    const beside = Object.keys(schema).find(
      (other) => other !== keyword && !isAnnotation(other) && !(isValue && other === 'type'),
    )
    if (beside !== undefined)
      refuse(
        [...path, beside],
        `beside ${keyword} cannot be served${all.length > 1 ? '' : ': put it inside'}`,
      )
    const value = schema[keyword]
    const at = [...path, keyword]
    if (keyword === '$ref') this.#reference(value, at, [])
    else if (isValue) values(keyword === 'const' ? [value] : value, schema.type, at)
    else this.#combined(keyword, value, at, depth)
  }

  #combined(keyword: string, value: unknown, at: Path, depth: number): void {
    if (!Array.isArray(value) || value.length === 0) refuse(at, 'must be a list of schemas')
    if (keyword === 'allOf' && value.length > 1) refuse(at, 'of several schemas cannot be served: merge them')
    value.forEach((each, index) => {
      this.schema(each, [...at, index], depth + 1)
    })
  }

  #typed(schema: Record<string, unknown>, path: Path, depth: number): void {
    const types = this.#types(schema, path)
    const known = new Set([...types.flatMap((type) => OF_TYPE[type] ?? []), 'type'])
    const stray = Object.keys(schema).find((keyword) => !known.has(keyword) && !isAnnotation(keyword))
    if (stray !== undefined) {
      const elsewhere = ALL_TYPED.has(stray) ? ` for the type ${types.join(', ') || 'of any value'}` : ''
      refuse([...path, stray], `this keyword cannot be served${elsewhere}`)
    }
    for (const name of COUNTS) count(schema, name, path)
    if (types.includes('object')) this.#object(schema, path, depth)
    if (types.includes('array')) this.#array(schema, path, depth)
    if (types.includes('string')) string(schema, path)
    for (const name of [...BOUNDS, 'multipleOf']) number(schema, name, types, path)
    multiples(schema, path)
  }

  /** Without `type`, those whose keywords there are. */
  #types(schema: Record<string, unknown>, path: Path): string[] {
    const { type } = schema
    if (type === undefined) {
      const meant = Object.keys(OF_TYPE).filter((each) => OF_TYPE[each]?.some((keyword) => keyword in schema))
      if (meant.some((each) => each !== 'object' && each !== 'array'))
        refuse([...path, 'type'], 'is required beside keywords of strings and numbers')
      if (meant.length > 1) refuse([...path, 'type'], 'is required beside keywords of several types')
      return meant
    }
    const types: unknown[] = Array.isArray(type) ? type : [type]
    const strange = types.findIndex((each) => typeof each !== 'string' || !Object.hasOwn(OF_TYPE, each))
    if (strange >= 0 || types.length === 0) refuse([...path, 'type'], 'must be the name of a JSON type')
    return types.map(String)
  }

  #object(schema: Record<string, unknown>, path: Path, depth: number): void {
    const { properties = {}, required = [], patternProperties, additionalProperties, propertyNames } = schema
    this.#schemasOf(properties, [...path, 'properties'], depth)
    this.#schemasOf(patternProperties, [...path, 'patternProperties'], depth)
    if (!Array.isArray(required) || !required.every((name) => typeof name === 'string'))
      refuse([...path, 'required'], 'must be a list of names')
    const names = [...Object.keys(properties as object), ...this.#listed(propertyNames)]
    const unknown = required.findIndex((name) => !names.includes(name))
    if (unknown >= 0) refuse([...path, 'required', unknown], 'names a property that `properties` lacks')
    const closed = additionalProperties === undefined || additionalProperties === false
    if (names.length === 0 && Number(schema.minProperties ?? 0) > 1)
      refuse([...path, 'minProperties'], 'above 1 needs a list of keys: any other could come twice')
    if (patternProperties !== undefined && (!closed || Object.keys(schema).some(isOtherKey)))
      refuse([...path, 'patternProperties'], 'beside other keywords for keys cannot be served')
    const hasProperties = Object.keys(properties as object).length > 0
    // Any others are allowed also where the keyword is absent, and there are none.
    const open = !closed && !(hasProperties && saysNothing(additionalProperties))
    // A key that is also a property's would have two values.
    if ((open || propertyNames !== undefined) && hasProperties)
      refuse(
        [...path, propertyNames === undefined ? 'additionalProperties' : 'propertyNames'],
        'beside properties cannot be served',
      )
    if (open) this.schema(additionalProperties, [...path, 'additionalProperties'], depth + 1)
    if (propertyNames !== undefined) {
      const isTyped = isObject(propertyNames) && !ALONE.some((keyword) => keyword in propertyNames)
      const ofKeys = isTyped ? { type: 'string', ...propertyNames } : propertyNames
      this.schema(ofKeys, [...path, 'propertyNames'], depth + 1)
    }
  }

  /** The names of keys, where they are listed. */
  #listed(propertyNames: unknown): unknown[] {
    if (!isObject(propertyNames)) return []
    const { $ref } = propertyNames
    const schema = typeof $ref === 'string' ? this.#target($ref) : propertyNames
    return isObject(schema) && Array.isArray(schema.enum) ? schema.enum : []
  }

  #array(schema: Record<string, unknown>, path: Path, depth: number): void {
    const { items, prefixItems, additionalItems } = schema
    // A tuple as drafts before 2020-12 have it: what its other items are is said by `additionalItems`.
    const isOlder = Array.isArray(items)
    const [rest, others] = isOlder ? ['additionalItems', additionalItems] : ['items', items]
    const [tuple, first] = isOlder ? ['items', items] : ['prefixItems', prefixItems]
    if (isOlder && prefixItems !== undefined)
      refuse([...path, 'items'], 'must be a schema beside prefixItems')
    if (others !== undefined && others !== false) this.schema(others, [...path, rest], depth + 1)
    if (first === undefined) return
    if (!Array.isArray(first)) refuse([...path, tuple], 'must be a list of schemas')
    first.forEach((each, index) => {
      if (typeof each === 'boolean') refuse([...path, tuple, index], 'must be an object')
      this.schema(each, [...path, tuple, index], depth + 1)
    })
  }

  #schemasOf(members: unknown, path: Path, depth: number): void {
    if (members === undefined) return
    if (!isObject(members)) refuse(path, 'must be an object')
    for (const [name, member] of Object.entries(members)) this.schema(member, [...path, name], depth + 1)
  }

  /** `seen`: references that lead here without a value between them. */
  #reference(uri: unknown, path: Path, seen: readonly string[]): void {
    if (typeof uri !== 'string') refuse(path, 'must be a string')
    if (seen.includes(uri)) refuse(path, 'refers to itself')
    const target = this.#target(uri)
    if (target === undefined) refuse(path, 'refers to nothing in this schema; it must begin with #')
    if (isObject(target) && '$ref' in target) this.#reference(target.$ref, path, [...seen, uri])
  }

  #target(uri: string): unknown {
    if (uri === '#') return this.#root
    if (!uri.startsWith('#/')) return undefined
    let at: unknown = this.#root
    for (const escaped of uri.slice(2).split('/')) {
      const name = unescaped(escaped)
      if (typeof at !== 'object' || at === null || !Object.hasOwn(at, name)) return undefined
      at = Reflect.get(at, name)
    }
    return at
  }
}

/** A name in the fragment of a reference, as the schema has it. */
export function unescaped(text: string): string {
  return decoded(text).replaceAll('~1', '/').replaceAll('~0', '~')
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

function isOtherKey(keyword: string): boolean {
  return ['properties', 'propertyNames', 'minProperties', 'maxProperties'].includes(keyword)
}

function saysNothing(schema: unknown): boolean {
  return schema === true || (isObject(schema) && Object.keys(schema).length === 0)
}

function count(schema: Record<string, unknown>, name: string, path: Path): void {
  const value = schema[name]
  if (value === undefined) return
  const most = name.endsWith('Length') ? SCHEMA_LIMITS.length : SCHEMA_LIMITS.items
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > most)
    refuse([...path, name], `must be a whole number up to ${most}`)
}

function number(schema: Record<string, unknown>, name: string, types: readonly string[], path: Path): void {
  const value = schema[name]
  if (value === undefined) return
  if (typeof value !== 'number') refuse([...path, name], 'must be a number')
  if (!types.includes('integer')) return
  if (name === 'multipleOf' && !(Number.isInteger(value) && value >= 1 && value <= 1000))
    refuse([...path, name], 'must be a whole number, 1 to 1000')
  // Beyond the integers that are served, a bound may only be on the other side.
  const isLower = name === 'minimum' || name === 'exclusiveMinimum'
  if (isLower ? value > Number.MAX_SAFE_INTEGER : value < Number.MIN_SAFE_INTEGER)
    refuse([...path, name], 'leaves none of the integers up to 2^53')
}

/** Their digits are those of all numbers between the bounds. */
function multiples(schema: Record<string, unknown>, path: Path): void {
  if (schema.multipleOf === undefined) return
  const low = Number(schema.minimum ?? schema.exclusiveMinimum)
  const high = Number(schema.maximum ?? schema.exclusiveMaximum)
  if (!(high - low <= MOST_BETWEEN))
    refuse([...path, 'multipleOf'], `needs bounds at most ${MOST_BETWEEN} apart`)
}

function string({ pattern, format, minLength, maxLength }: Record<string, unknown>, path: Path): void {
  if (pattern !== undefined && typeof pattern !== 'string') refuse([...path, 'pattern'], 'must be a string')
  if (format !== undefined && typeof format !== 'string') refuse([...path, 'format'], 'must be a string')
  if (typeof format === 'string' && FORMATS_WITHOUT_GRAMMAR.includes(format))
    refuse([...path, 'format'], `${format} cannot be served`)
  if (minLength === undefined && maxLength === undefined) return
  const lengths = { least: Number(minLength ?? 0), most: Number(maxLength ?? Number.POSITIVE_INFINITY) }
  if (typeof pattern === 'string') {
    const isLongAnyway = lengths.most === Number.POSITIVE_INFINITY && lengths.least <= shortest(pattern)
    if (!isLongAnyway && patternWithLengths(pattern, lengths) === undefined)
      refuse([...path, 'pattern'], 'beside this minLength or maxLength cannot be served')
  } else if (typeof format === 'string' && !hasLengths(format, lengths))
    refuse([...path, 'format'], 'beside this minLength or maxLength cannot be served')
}

/** Whether the texts of a format are so long anyway, or the format is none of JSON Schema's. */
function hasLengths(format: string, { least, most }: { least: number; most: number }): boolean {
  const served = FORMATS.get(format)
  return !served || (least <= served.least && most >= served.most)
}

/** The length of any text of a pattern, at least. One that JavaScript does not read might match the empty one. */
function shortest(pattern: string): 0 | 1 {
  try {
    return new RegExp(pattern, 'u').test('') ? 0 : 1
  } catch {
    return 0
  }
}

function values(list: unknown, type: unknown, path: Path): void {
  if (!Array.isArray(list) || list.length === 0) refuse(path, 'must be a list of values')
  if (type === undefined) return
  const types: unknown[] = Array.isArray(type) ? type : [type]
  const stray = list.findIndex((value) => !types.some((each) => isOf(value, each)))
  if (stray >= 0) refuse(path, `has a value that is not of the type ${types.join(', ')}`)
}

function isOf(value: unknown, type: unknown): boolean {
  if (type === 'integer') return Number.isInteger(value)
  if (type === 'null') return value === null
  if (type === 'array') return Array.isArray(value)
  if (type === 'object') return isObject(value)
  return typeof value === type
}
