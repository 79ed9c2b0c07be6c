import { isObject } from '../../shared/protocol/answer-schema.ts'
import { resolved } from './schema-parts.ts'

type Schema = Readonly<Record<string, unknown>>

/** References and members that are followed. */
const MAX_DEPTH = 8

/**
 * Whether no value fits two of the schemas, as far as that is easily seen: they have other types, or other values, or are
 * objects that differ so in a member that all of them have. `root` has what they refer to.
 */
export function areDisjoint(schemas: readonly unknown[], root: unknown): boolean {
  return schemas.every((one, index) => {
    return schemas.slice(index + 1).every((other) => excludes(one, other, root, MAX_DEPTH))
  })
}

function excludes(one: unknown, other: unknown, root: unknown, depth: number): boolean {
  const [a, b] = [resolved(one, root), resolved(other, root)]
  if (!a || !b || depth === 0) return false
  for (const keyword of ['anyOf', 'oneOf']) {
    const each = (schema: Schema, against: Schema) =>
      Array.isArray(schema[keyword]) &&
      schema[keyword].every((part) => excludes(part, against, root, depth - 1))
    if (each(a, b) || each(b, a)) return true
  }
  const [values, others] = [valuesOf(a), valuesOf(b)]
  if (values && others) return values.every((value) => !others.includes(value))
  const [types, otherTypes] = [typesOf(a), typesOf(b)]
  if (!types || !otherTypes) return false
  if (types.every((type) => !otherTypes.includes(type))) return true
  const both = types.filter((type) => otherTypes.includes(type))
  return both.length === 1 && both[0] === 'object' && haveOtherMembers(a, b, root, depth)
}

function haveOtherMembers(a: Schema, b: Schema, root: unknown, depth: number): boolean {
  const { properties, required } = a
  if (!isObject(properties) || !Array.isArray(required) || !isObject(b.properties)) return false
  const members = b.properties
  const inBoth = required.filter((name) => Array.isArray(b.required) && b.required.includes(name))
  return inBoth.some((name) => {
    const hasBoth = Object.hasOwn(properties, name) && Object.hasOwn(members, name)
    return hasBoth && excludes(properties[name], members[name], root, depth - 1)
  })
}

/** As JSON, of a schema that lists them. */
function valuesOf({ const: only, enum: list, ...schema }: Schema): string[] | undefined {
  if (only !== undefined || 'const' in schema) return [JSON.stringify(only)]
  return Array.isArray(list) ? list.map((value) => JSON.stringify(value)) : undefined
}

/** An integer is a number, too. */
function typesOf(schema: Schema): string[] | undefined {
  const { type } = schema
  const values = valuesOf(schema)
  if (values) return values.map((value) => typeOf(JSON.parse(value)))
  if (type === undefined) return isObject(schema.properties) ? ['object'] : undefined
  const types: unknown[] = Array.isArray(type) ? type : [type]
  return types.map((each) => (each === 'integer' ? 'number' : String(each)))
}

function typeOf(value: unknown): string {
  if (value === null) return 'null'
  return Array.isArray(value) ? 'array' : typeof value
}
