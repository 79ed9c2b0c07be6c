import type { z } from 'zod'
import { AparError } from './errors.ts'

const MAX_PARAM = 256
const MAX_MESSAGE = 512
/** Of a stranger's JSON. Schemas of tools are the deepest part of a request; some go down to about 100. */
export const MAX_DEPTH = 256

/**
 * Validates `input` and returns it as the schema's type.
 * @throws AparError `invalid_request`; `param` is the path of the first offending field (`messages.0.role`).
 */
export function parse<T>(schema: z.ZodType<T>, input: unknown): T {
  const result = schema.safeParse(input, { error: wording })
  if (result.success) return result.data
  const issue = result.error.issues[0]
  if (!issue) throw new AparError('invalid_request', 'invalid request')
  const { path, message: text } = innermost(issue)
  const param = shortened(path.map(String).join('.'), MAX_PARAM) || undefined
  const message = shortened(text, MAX_MESSAGE)
  throw new AparError('invalid_request', param ? `${param}: ${message}` : message, { param })
}

export type Issue = z.core.$ZodIssue

/** Messages that schemas do not have themselves. */
function wording({ code, input }: z.core.$ZodRawIssue): string | undefined {
  return code === 'invalid_type' && input === undefined ? 'is required' : undefined
}

/** Of a value that is none of several types, the error within the only type that it could be; else that of the whole. */
function innermost(issue: Issue): { path: PropertyKey[]; message: string } {
  if (issue.code === 'unrecognized_keys') {
    const [key = ''] = issue.keys
    return { path: [...issue.path, key], message: 'is not a known field' }
  }
  if (issue.code !== 'invalid_union') return issue
  const [first] = onlyWithin(issue) ?? []
  if (!first) return issue
  const { path, message } = innermost(first)
  return { path: [...issue.path, ...path], message }
}

/** The errors of the only type of a union that the value could be. */
export function onlyWithin({ errors }: z.core.$ZodIssueInvalidUnion): readonly Issue[] | undefined {
  const within = errors.filter(([first]) => first && isWithin(first))
  return within.length === 1 ? within[0] : undefined
}

/** Whether the value has the right type, but something in it is wrong. */
function isWithin(issue: Issue): boolean {
  // Its `type` is none of a discriminated union's.
  if (issue.code === 'invalid_union' && issue.errors.length === 0 && issue.path.length < 2) return false
  return issue.path.length > 0 || issue.code === 'unrecognized_keys'
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

/**
 * JSON from a stranger, whom deep nesting would cost nothing, and those who read the values their stack.
 * @throws AparError `invalid_json`, `invalid_request` with the member that is nested too deeply.
 */
export function parseStrangersJson(text: string): unknown {
  const value = parseJsonText(text)
  // Most texts are too short for it.
  if (text.length <= 2 * MAX_DEPTH || typeof value !== 'object' || value === null) return value
  for (const [name, member] of Object.entries(value)) {
    if (!isDeeper(member, MAX_DEPTH - 1)) continue
    const param = shortened(name, MAX_PARAM)
    throw new AparError('invalid_request', `${param}: is nested more than ${MAX_DEPTH} deep`, { param })
  }
  return value
}

function isDeeper(value: unknown, levels: number): boolean {
  if (typeof value !== 'object' || value === null) return false
  return levels === 0 || Object.values(value).some((member) => isDeeper(member, levels - 1))
}

/** @throws AparError `invalid_json`. */
export function parseJsonText(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new AparError('invalid_json', 'not valid JSON')
  }
}
