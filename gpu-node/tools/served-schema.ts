import { AparError } from '../../shared/errors.ts'
import { problemOf } from '../../shared/protocol/answer-schema.ts'
import type { Tool } from '../../shared/protocol/tools.ts'

type Schema = Record<string, unknown>

const ANY_OBJECT: Schema = { type: 'object' }
const NO_ARGUMENTS: Schema = { type: 'object', properties: {} }
/** Each round takes one keyword away. */
const MAX_ROUNDS = 200
/** Keywords whose members are schemas. */
const CONTAINERS: readonly unknown[] = ['properties', 'patternProperties', '$defs', 'definitions']
const LISTS: readonly unknown[] = ['anyOf', 'oneOf', 'allOf', 'prefixItems', 'items']

/**
 * The schema that the arguments of a tool keep to: its parameters, without keywords that cannot be served. Clients describe
 * tools with all of JSON Schema, and expect a model to do its best.
 */
export function servedSchema(parameters: Schema = NO_ARGUMENTS): Schema {
  let schema = objectAtRoot(structuredClone(parameters))
  for (let round = 0; round < MAX_ROUNDS; round++) {
    const problem = problemOf(schema)
    if (!problem) return schema
    if (problem.path.length === 0) break
    schema = objectAtRoot(without(schema, problem.path))
  }
  return ANY_OBJECT
}

/** @throws AparError `invalid_request` that names what of the schema of a `strict` tool cannot be served. */
export function requireServed(tools: readonly Tool[]): void {
  for (const [index, { strict, parameters }] of tools.entries()) {
    if (!strict || !parameters) continue
    const problem = problemOf(parameters) ?? notAnObject(parameters)
    if (!problem) continue
    const param = ['tools', index, 'parameters', ...problem.path].join('.')
    throw new AparError('invalid_request', `${param}: ${problem.message}`, { param })
  }
}

function notAnObject(parameters: Schema) {
  return parameters.type === 'object' ? undefined : { path: ['type'], message: 'must be object' }
}

/** Arguments are an object, also where the schema names it only, or says nothing of types. */
function objectAtRoot(schema: Schema): Schema {
  const { $ref, ...rest } = schema
  const [, container, name] = /^#\/(\$defs|definitions)\/([^/~%]+)$/.exec(String($ref)) ?? []
  const target = container && name ? member(rest[container], name) : undefined
  if (isSchema(target) && !('$ref' in target)) return objectAtRoot({ ...rest, ...target })
  if (schema.type === 'object') return schema
  const says = ['$ref', 'anyOf', 'oneOf', 'allOf', 'enum', 'const', 'type'].some(
    (keyword) => keyword in schema,
  )
  return says ? ANY_OBJECT : { ...schema, type: 'object' }
}

/** What is at fault is left out: a keyword, or all that a schema says. */
function without(schema: Schema, path: readonly (string | number)[]): Schema {
  const key = path.at(-1) ?? ''
  const holder = path.slice(0, -1).reduce<unknown>(member, schema)
  if (typeof holder !== 'object' || holder === null) return ANY_OBJECT
  const isItself = CONTAINERS.includes(path.at(-2)) || (Array.isArray(holder) && LISTS.includes(path.at(-2)))
  if (isItself && JSON.stringify(Reflect.get(holder, key)) !== '{}') Reflect.set(holder, key, {})
  else if (Array.isArray(holder)) holder.splice(Number(key), 1)
  else if (key in holder) Reflect.deleteProperty(holder, key)
  else for (const keyword of Object.keys(holder)) Reflect.deleteProperty(holder, keyword)
  return schema
}

function member(holder: unknown, key: string | number): unknown {
  return typeof holder === 'object' && holder !== null && Object.hasOwn(holder, key)
    ? Reflect.get(holder, key)
    : undefined
}

function isSchema(value: unknown): value is Schema {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
