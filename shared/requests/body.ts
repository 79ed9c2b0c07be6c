import type { z } from 'zod'
import { parse, parseJsonText } from '../parse.ts'
import { withoutNulls } from './absent.ts'

/**
 * The body of a call of one of the APIs. null means absent at every depth.
 * @throws AparError as `parse`.
 */
export function parseBody<T>(schema: z.ZodType<T>, text: string): T {
  return parse(schema, withoutNulls(parseJsonText(text)))
}
