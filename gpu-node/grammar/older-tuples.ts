import { unescaped } from '../../shared/protocol/answer-schema.ts'
import type { Schema } from './schema-parts.ts'

/** Drafts before 2020-12 write the first items of an array as a list in `items`, and all others as `additionalItems`. */
export function withNewerTuple(schema: Schema): Schema {
  const { items, additionalItems, ...rest } = schema
  if (!Array.isArray(items)) return { ...rest, ...(items !== undefined && { items }) }
  return {
    ...rest,
    ...(items.length > 0 && { prefixItems: items }),
    ...(additionalItems !== undefined && { items: additionalItems }),
  }
}

/** Where a reference into the schema `root` leads once {@link withNewerTuple} has changed all of it. */
export function newerReference(uri: unknown, root: unknown): unknown {
  if (typeof uri !== 'string' || !uri.startsWith('#/')) return uri
  let at = root
  const names = uri.slice(2).split('/')
  const newer = names.map((escaped) => {
    const holder = at
    const name = unescaped(escaped)
    at = typeof holder === 'object' && holder !== null ? Reflect.get(holder, name) : undefined
    return isOlderTuple(holder) ? (NEWER[name] ?? escaped) : escaped
  })
  return `#/${newer.join('/')}`
}

const NEWER: Readonly<Record<string, string>> = { items: 'prefixItems', additionalItems: 'items' }

function isOlderTuple(schema: unknown): boolean {
  return typeof schema === 'object' && schema !== null && 'items' in schema && Array.isArray(schema.items)
}
