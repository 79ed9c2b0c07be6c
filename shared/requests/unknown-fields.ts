import type { z } from 'zod'
import { type Issue, onlyWithin } from '../parse.ts'

/** Removing one field can show others. */
const MAX_ROUNDS = 32

/**
 * Removes from the JSON of a request, in place, the fields that its schema does not know, at any depth, and returns their
 * paths. Its other errors stay. A stranger's body may have very many such fields: the time is linear in its length.
 */
export function removeUnknown(schema: z.ZodType, value: unknown): string[] {
  const unknown: string[] = []
  for (let round = 0; round < MAX_ROUNDS; round++) {
    const paths = (schema.safeParse(value).error?.issues ?? []).flatMap((issue) => unknownIn(issue))
    if (paths.length === 0) break
    for (const path of paths) {
      remove(value, path)
      unknown.push(path.map(String).join('.'))
    }
  }
  return unknown
}

function unknownIn(issue: Issue): PropertyKey[][] {
  if (issue.code === 'unrecognized_keys') return issue.keys.map((key) => [...issue.path, key])
  if (issue.code !== 'invalid_union') return []
  return (onlyWithin(issue) ?? []).flatMap((within) => {
    return unknownIn(within).map((path) => [...issue.path, ...path])
  })
}

/** Removes the member at `path` of JSON. */
function remove(value: unknown, [key, ...rest]: readonly PropertyKey[]): void {
  if (typeof value !== 'object' || value === null || key === undefined) return
  if (rest.length === 0) Reflect.deleteProperty(value, key)
  else remove(Reflect.get(value, key), rest)
}
