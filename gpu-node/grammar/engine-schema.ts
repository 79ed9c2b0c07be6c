import { isOfFormat, keywordsOf } from './formats.ts'
import { newerReference, withNewerTuple } from './older-tuples.ts'
import { withoutOptionalGroups } from './pattern.ts'

/** Keywords whose values are values of answers, not schemas. */
const VALUES = ['const', 'enum', 'default', 'examples', 'example']
/** Keywords whose members are schemas. */
const MAPS = ['properties', 'patternProperties', '$defs', 'definitions']
const ABOUT_KEYS = ['properties', 'patternProperties', 'propertyNames', 'additionalProperties']

type Schema = Record<string, unknown>

/** A schema as the grammar engine reads it: with what it takes for excluded where it is not written. */
export function engineSchema(schema: unknown): unknown {
  return written(schema, schema)
}

/** `root`: what references in it lead into. */
function written(schema: unknown, root: unknown): unknown {
  if (!isObject(schema)) return schema
  const out = mapped(withNewerTuple(schema), (keyword, value) => {
    if (VALUES.includes(keyword)) return value
    return keyword === '$ref' ? newerReference(value, root) : inside(keyword, value, root)
  })
  const types: unknown[] = Array.isArray(out.type) ? out.type : [out.type]
  if (types.includes('array') && !('items' in out)) out.items = !('prefixItems' in out)
  if (types.includes('object') && !ABOUT_KEYS.some((keyword) => keyword in out))
    out.additionalProperties = true
  if (types.includes('integer')) addBounds(out)
  if (typeof out.format === 'string') {
    const { format } = out
    delete out.format
    Object.assign(out, keywordsOf(format))
  }
  if (typeof out.pattern === 'string') out.pattern = withoutOptionalGroups(out.pattern)
  return out
}

function inside(keyword: string, value: unknown, root: unknown): unknown {
  if (Array.isArray(value)) return value.map((each) => written(each, root))
  if (!MAPS.includes(keyword) || !isObject(value)) return written(value, root)
  const members = mapped(value, (_, member) => written(member, root))
  if (keyword !== 'patternProperties') return members
  return Object.fromEntries(
    Object.entries(members).map(([key, member]) => [withoutOptionalGroups(key), member]),
  )
}

/** More digits than a double has would be another number for most readers. */
function addBounds(schema: Schema): void {
  if (!('minimum' in schema) && !('exclusiveMinimum' in schema)) schema.minimum = Number.MIN_SAFE_INTEGER
  if (!('maximum' in schema) && !('exclusiveMaximum' in schema)) schema.maximum = Number.MAX_SAFE_INTEGER
}

function mapped(members: Schema, change: (name: string, member: unknown) => unknown): Schema {
  return Object.fromEntries(Object.entries(members).map(([name, member]) => [name, change(name, member)]))
}

export function isObject(value: unknown): value is Schema {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The patterns in a schema that {@link engineSchema} has returned. */
export function patternsOf(schema: unknown, found = new Set<string>()): Set<string> {
  if (Array.isArray(schema)) for (const each of schema) patternsOf(each, found)
  if (!isObject(schema)) return found
  for (const [keyword, value] of Object.entries(schema)) {
    if (VALUES.includes(keyword)) continue
    if (keyword === 'pattern' && typeof value === 'string') {
      if (!isOfFormat(value)) found.add(value)
    } else if (!MAPS.includes(keyword) || !isObject(value)) patternsOf(value, found)
    else for (const member of Object.values(value)) patternsOf(member, found)
    if (keyword === 'patternProperties' && isObject(value))
      for (const key of Object.keys(value)) found.add(key)
  }
  return found
}
