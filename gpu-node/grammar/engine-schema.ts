import { isObject } from '../../shared/protocol/answer-schema.ts'
import { patternWithLengths } from '../../shared/protocol/pattern-lengths.ts'
import { areDisjoint } from './disjoint.ts'
import { isOfFormat, keywordsOf } from './formats.ts'
import { endingPattern } from './generated-patterns.ts'
import { newerReference, withNewerTuple } from './older-tuples.ts'
import { enginePattern } from './pattern.ts'
import { resolved, type Schema } from './schema-parts.ts'

/** Keywords whose values are values of answers, not schemas. */
const VALUES = ['const', 'enum', 'default', 'examples', 'example']
/** Keywords whose members are schemas. */
const MAPS = ['properties', 'patternProperties', '$defs', 'definitions']
const ABOUT_KEYS = ['properties', 'patternProperties', 'propertyNames', 'additionalProperties']

/**
 * A schema as the grammar engine reads it: with what it takes for excluded where it is not written, and without what it does
 * not know.
 */
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
  writeKeys(out, types, root)
  if (types.includes('integer')) writeBounds(out)
  if (typeof out.format === 'string') writeFormat(out, out.format, types.includes('string'))
  if (typeof out.pattern === 'string') {
    const lengths = {
      least: Number(out.minLength ?? 0),
      most: Number(out.maxLength ?? Number.POSITIVE_INFINITY),
    }
    // Where there is none, no text that matches is shorter (shared/protocol/answer-schema.ts).
    const withLengths = patternWithLengths(out.pattern, lengths) ?? out.pattern
    delete out.minLength
    delete out.maxLength
    out.pattern = endingPattern(withLengths) ?? enginePattern(withLengths)
  }
  if (Array.isArray(schema.oneOf) && areDisjoint(schema.oneOf, root) && !refersToOneOf(root)) {
    out.anyOf = out.oneOf
    delete out.oneOf
  }
  return out
}

/** Whether a reference leads into what would have another name. */
function refersToOneOf(root: unknown): boolean {
  return /"\$ref":"#[^"]*\/oneOf\//.test(JSON.stringify(root))
}

function inside(keyword: string, value: unknown, root: unknown): unknown {
  if (Array.isArray(value)) return value.map((each) => written(each, root))
  if (!MAPS.includes(keyword) || !isObject(value)) return written(value, root)
  const members = mapped(value, (_, member) => written(member, root))
  if (keyword !== 'patternProperties') return members
  return Object.fromEntries(Object.entries(members).map(([key, member]) => [enginePattern(key), member]))
}

/** Which keys an object has. Where there are properties, there are no others. */
function writeKeys(schema: Schema, types: readonly unknown[], root: unknown): void {
  const names = resolved(schema.propertyNames, root)?.enum
  if (Array.isArray(names)) {
    // As properties, none of them comes twice.
    const { additionalProperties = {} } = schema
    const isText = (name: unknown) => typeof name === 'string'
    schema.properties = Object.fromEntries(names.filter(isText).map((name) => [name, additionalProperties]))
    delete schema.propertyNames
    delete schema.additionalProperties
  }
  const hasProperties = isObject(schema.properties) && Object.keys(schema.properties).length > 0
  if (hasProperties || 'patternProperties' in schema) delete schema.additionalProperties
  if (types.includes('object') && !ABOUT_KEYS.some((keyword) => keyword in schema))
    schema.additionalProperties = true
}

/** More digits than a double has would be another number for most readers. */
function writeBounds(schema: Schema): void {
  const { minimum, exclusiveMinimum, maximum, exclusiveMaximum } = schema
  const least = [Number.MIN_SAFE_INTEGER]
  if (typeof minimum === 'number') least.push(Math.ceil(minimum))
  if (typeof exclusiveMinimum === 'number') least.push(Math.floor(exclusiveMinimum) + 1)
  const most = [Number.MAX_SAFE_INTEGER]
  if (typeof maximum === 'number') most.push(Math.floor(maximum))
  if (typeof exclusiveMaximum === 'number') most.push(Math.ceil(exclusiveMaximum) - 1)
  delete schema.exclusiveMinimum
  delete schema.exclusiveMaximum
  Object.assign(schema, { minimum: Math.max(...least), maximum: Math.min(...most) })
}

/** A pattern says more than the format beside it, and all that generators of schemas mean by it. */
function writeFormat(schema: Schema, format: string, ofString: boolean): void {
  delete schema.format
  if (!ofString || 'pattern' in schema) return
  const keywords = keywordsOf(format, 'maxLength' in schema)
  // Its texts have these lengths anyway (shared/protocol/answer-schema.ts).
  if (Object.keys(keywords).length > 0) {
    delete schema.minLength
    delete schema.maxLength
  }
  Object.assign(schema, keywords)
}

function mapped(members: Schema, change: (name: string, member: unknown) => unknown): Schema {
  return Object.fromEntries(Object.entries(members).map(([name, member]) => [name, change(name, member)]))
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
