import type { z } from 'zod'
import { AparError } from './errors.ts'

const MAX_PARAM = 256
const MAX_MESSAGE = 512

/**
 * Validates `input` and returns it as the schema's type.
 * @throws AparError `invalid_request`; `param` is the path of the first offending field (`messages.0.role`).
 */
export function parse<T>(schema: z.ZodType<T>, input: unknown): T {
  const result = schema.safeParse(input)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  if (!issue) throw new AparError('invalid_request', 'invalid request')
  const keys = issue.code === 'unrecognized_keys' ? [...issue.path, issue.keys[0] ?? ''] : issue.path
  const param = shortened(keys.map(String).join('.'), MAX_PARAM) || undefined
  const message = shortened(issue.message, MAX_MESSAGE)
  throw new AparError('invalid_request', param ? `${param}: ${message}` : message, { param })
}

/** Keys of a body stand in the messages: one may be as long as the body, and all of them may be unknown. */
function shortened(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length).toWellFormed()}...`
}

/**
 * Parses JSON text and validates it.
 * @throws AparError `invalid_json` when it is not JSON, otherwise like {@link parse}.
 */
export function parseJson<T>(schema: z.ZodType<T>, text: string): T {
  return parse(schema, parseJsonText(text))
}

/** @throws AparError `invalid_json`. */
export function parseJsonText(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new AparError('invalid_json', 'not valid JSON')
  }
}
