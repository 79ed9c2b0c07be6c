import type { Context } from 'hono'
import type { z } from 'zod'
import { parseBodyLeniently } from '../../shared/requests/body.ts'
import type { AppEnv } from '../app-env.ts'
import type { Principal } from '../keys/principal.ts'
import { bodyText } from './request-body.ts'

export const IGNORED_FIELDS_HEADER = 'x-apar-ignored-fields'
/** A header's length, in characters. */
const MAX_HEADER = 1024

/**
 * The body of a call. Whether its key may send unknown fields is known when the call is authorized, which it may not be
 * yet (docs/adr/0053): then they are refused, or listed in a header of the answer.
 * @throws AparError for what is wrong with the known fields.
 */
export async function apiBody<T>(c: Context<AppEnv>, schema: z.ZodType<T>): Promise<T> {
  const { body, unknown, refusal } = parseBodyLeniently(schema, await bodyText(c))
  if (refusal) {
    const principal: Principal | undefined = c.get('principal')
    if (principal && principal.unknown_fields !== 'ignore') throw refusal
    c.set('unknownFields', refusal)
    ignoreFields(c, unknown)
  }
  return body
}

/** Names fields of the body that have no effect, in a header of the answer. */
export function ignoreFields(c: Context<AppEnv>, paths: readonly string[]): void {
  c.set('ignoredFields', [...(c.get('ignoredFields') ?? []), ...paths])
}

/** Keys of a body may hold anything, a header may not. */
export function ignoredFieldsHeader(paths: readonly string[]): string {
  return paths
    .map((path) => path.replace(/[^!-+\--~]/g, '?'))
    .join(', ')
    .slice(0, MAX_HEADER)
}
