import { AparError } from '../../../shared/errors.ts'
import type { Apar } from '../../../shared/openai.ts'
import { parse } from '../../../shared/parse.ts'
import { FurtherFields, GenerateRequest } from '../../../shared/protocol/request.ts'

/**
 * A request from the fields of another API, under apar's names; null means absent. `apar`: options that the other API
 * does not have.
 */
export function toGenerateRequest(fields: object, apar: Apar | null | undefined): GenerateRequest {
  const options = Object.entries(apar ?? {})
  const isFurther = ([name]: readonly [string, unknown]) => name in FurtherFields.shape
  const branching = options.filter((option) => !isFurther(option))
  const request = {
    ...Object.fromEntries(options.filter(isFurther)),
    branching: branching.length > 0 ? Object.fromEntries(branching) : undefined,
    ...fields,
  }
  const given = Object.entries(request).filter(([, value]) => value !== undefined && value !== null)
  return parse(GenerateRequest, Object.fromEntries(given))
}

/** The request, with the stop strings of APIs that give text in document order. */
export function stopsInDocument(request: GenerateRequest): GenerateRequest {
  return request.stop?.length ? { ...request, stop_scope: 'document' } : request
}

/** The text of a message's content. */
export function joinedText(content: string | readonly { readonly text: string }[]): string {
  return typeof content === 'string' ? content : content.map(({ text }) => text).join('')
}

/**
 * What `start` returns. Errors about the messages of a request name the field that the caller's API has instead.
 * @throws AparError
 */
export async function withPromptAs<T>(field: string, start: () => Promise<T>): Promise<T> {
  try {
    return await start()
  } catch (error) {
    if (!(error instanceof AparError) || error.param?.split('.')[0] !== 'messages') throw error
    const { code, param, retryAfterSeconds, cause } = error
    const message = error.message.replace(`${param}: `, `${field}: `)
    throw new AparError(code, message, { param: field, retryAfterSeconds, cause })
  }
}
