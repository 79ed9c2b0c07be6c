import type { z } from 'zod'
import { AparError } from '../errors.ts'
import { parse, parseStrangersJson } from '../parse.ts'
import { withoutNulls } from './absent.ts'
import { removeUnknown } from './unknown-fields.ts'

/**
 * The body of a call of one of the APIs. null means absent at every depth.
 * @throws AparError as `parse`.
 */
export function parseBody<T>(schema: z.ZodType<T>, text: string): T {
  return parse(schema, inputOf(text))
}

/** A body that is good but for fields that nobody knows. */
export interface LenientBody<T> {
  readonly body: T
  /** Paths of fields that were left out. */
  readonly unknown: readonly string[]
  /** What a caller gets who may not send unknown fields. */
  readonly refusal: AparError | undefined
}

/** As {@link parseBody}, for a caller who may send unknown fields. */
export function parseBodyLeniently<T>(schema: z.ZodType<T>, text: string): LenientBody<T> {
  const input = inputOf(text)
  try {
    return { body: parse(schema, input), unknown: [], refusal: undefined }
  } catch (error) {
    if (!(error instanceof AparError)) throw error
    const unknown = removeUnknown(schema, input)
    if (unknown.length === 0) throw error
    return { body: parse(schema, input), unknown, refusal: error }
  }
}

/** Tools that must not be called have no part in the answer, whatever they are. */
function inputOf(text: string): unknown {
  const input = withoutNulls(parseStrangersJson(text))
  if (typeof input !== 'object' || input === null || !('tools' in input) || !('tool_choice' in input))
    return input
  const { tools, tool_choice, ...rest } = input
  const isNone =
    tool_choice === 'none' || (isObject(tool_choice) && Reflect.get(tool_choice, 'type') === 'none')
  return isNone && Array.isArray(tools) ? { ...rest, tool_choice } : input
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null
}
