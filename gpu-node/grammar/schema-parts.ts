import { isObject, unescaped } from '../../shared/protocol/answer-schema.ts'

export type Schema = Record<string, unknown>

/** One that leads to another, and so on. */
const MAX_REFERENCES = 8

/** The schema that another one refers to, in `root`, or else itself. undefined where it is not found. */
export function resolved(schema: unknown, root: unknown, depth = MAX_REFERENCES): Schema | undefined {
  if (!isObject(schema) || depth === 0) return undefined
  if (typeof schema.$ref !== 'string') return schema
  if (schema.$ref === '#') return resolved(root, root, depth - 1)
  if (!schema.$ref.startsWith('#/')) return undefined
  const path = schema.$ref.slice(2).split('/').map(unescaped)
  const target = path.reduce<unknown>((at, name) => {
    const holds = typeof at === 'object' && at !== null && Object.hasOwn(at, name)
    return holds ? Reflect.get(at, name) : undefined
  }, root)
  return resolved(target, root, depth - 1)
}
