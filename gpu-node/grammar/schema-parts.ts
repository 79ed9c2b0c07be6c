export type Schema = Record<string, unknown>

/** One that leads to another, and so on. */
const MAX_REFERENCES = 8

export function isObject(value: unknown): value is Schema {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The schema that another one refers to, in `root`, or else itself. undefined where it is not found. */
export function resolved(schema: unknown, root: unknown, depth = MAX_REFERENCES): Schema | undefined {
  if (!isObject(schema) || depth === 0) return undefined
  if (typeof schema.$ref !== 'string') return schema
  if (schema.$ref === '#') return resolved(root, root, depth - 1)
  const path = schema.$ref.startsWith('#/') ? schema.$ref.slice(2).split('/') : undefined
  // Other ways to write a name are left to the grammar engine.
  if (!path || path.some((name) => /[~%]/.test(name))) return undefined
  const target = path.reduce<unknown>((at, name) => {
    return isObject(at) && Object.hasOwn(at, name) ? at[name] : undefined
  }, root)
  return resolved(target, root, depth - 1)
}
