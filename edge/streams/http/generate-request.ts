import { AparError } from '../../../shared/errors.ts'
import type { Apar } from '../../../shared/openai.ts'
import { parse } from '../../../shared/parse.ts'
import { FurtherFields, GenerateRequest } from '../../../shared/protocol/request.ts'
import type { SamplingFields } from '../../../shared/requests/sampling.ts'

const NO_LIMIT = -1

/**
 * A request from the fields of another API, under apar's names; null means absent. `apar`: options that the other API
 * does not have.
 */
export function toGenerateRequest(fields: object, apar: Apar | null | undefined): GenerateRequest {
  const options = Object.entries(apar ?? {})
  const isFurther = ([name]: readonly [string, unknown]) => name in FurtherFields.shape
  const branching = options.filter((option) => !isFurther(option))
  const request: Record<string, unknown> = {
    ...given(options.filter(isFurther)),
    branching: branching.length > 0 ? Object.fromEntries(branching) : undefined,
    ...given(Object.entries(fields)),
  }
  if (request.max_tokens === NO_LIMIT) delete request.max_tokens
  return parse(GenerateRequest, request)
}

function given(members: readonly (readonly [string, unknown])[]): Record<string, unknown> {
  return Object.fromEntries(members.filter(([, value]) => value !== undefined && value !== null))
}

/** The request, with the stop strings of APIs that give text in document order. */
export function stopsInDocument(request: GenerateRequest): GenerateRequest {
  return request.stop?.length ? { ...request, stop_scope: 'document' } : request
}

type Sampling = Partial<Pick<GenerateRequest, keyof typeof SamplingFields>>

/** The sampling options that an API has at the top level, although its inventor's has not. -1 is a random seed. */
export function samplingOf({ top_k, min_p, repetition_penalty, seed }: Sampling): Sampling {
  return { top_k, min_p, repetition_penalty, seed: seed === -1 ? undefined : seed }
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
