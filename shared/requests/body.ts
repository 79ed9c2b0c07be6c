import type { z } from 'zod'
import { AparError } from '../errors.ts'
import { parse, parseJsonText } from '../parse.ts'
import { withoutNulls } from './absent.ts'
import { removeUnknown } from './unknown-fields.ts'

/**
 * The body of a call of one of the APIs. null means absent at every depth.
 * @throws AparError as `parse`.
 */
export function parseBody<T>(schema: z.ZodType<T>, text: string): T {
  return parse(schema, withoutNulls(parseJsonText(text)))
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
  const input = withoutNulls(parseJsonText(text))
  try {
    return { body: parse(schema, input), unknown: [], refusal: undefined }
  } catch (error) {
    if (!(error instanceof AparError)) throw error
    const unknown = removeUnknown(schema, input)
    if (unknown.length === 0) throw error
    return { body: parse(schema, input), unknown, refusal: error }
  }
}
