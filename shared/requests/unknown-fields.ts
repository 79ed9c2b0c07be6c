import type { z } from 'zod'
import { type Issue, onlyWithin } from '../parse.ts'

/** Removing one field can show others. */
const MAX_ROUNDS = 32

export interface Known {
  readonly value: unknown
  /** Paths of the fields that were removed. */
  readonly unknown: readonly string[]
}

/** The JSON of a request without the fields that its schema does not know, at any depth. Its other errors stay. */
export function withoutUnknown(schema: z.ZodType, input: unknown): Known {
  let value = input
  const unknown: string[] = []
  for (let round = 0; round < MAX_ROUNDS; round++) {
    const paths = (schema.safeParse(value).error?.issues ?? []).flatMap((issue) => unknownIn(issue))
    if (paths.length === 0) break
    for (const path of paths) {
      value = without(value, path)
      unknown.push(path.map(String).join('.'))
    }
  }
  return { value, unknown }
}

function unknownIn(issue: Issue): PropertyKey[][] {
  if (issue.code === 'unrecognized_keys') return issue.keys.map((key) => [...issue.path, key])
  if (issue.code !== 'invalid_union') return []
  return (onlyWithin(issue) ?? []).flatMap((within) => {
    return unknownIn(within).map((path) => [...issue.path, ...path])
  })
}

/** A copy of JSON without the member at `path`. */
function without(value: unknown, [key, ...rest]: readonly PropertyKey[]): unknown {
  if (typeof value !== 'object' || value === null || key === undefined) return value
  if (Array.isArray(value)) return value.map((item, index) => (index === key ? without(item, rest) : item))
  const others = Object.entries(value).filter(([name]) => rest.length > 0 || name !== key)
  return Object.fromEntries(
    others.map(([name, member]) => [name, name === key ? without(member, rest) : member]),
  )
}
