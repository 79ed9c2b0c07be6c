import type { Apar } from '../../../shared/openai.ts'
import { parse } from '../../../shared/parse.ts'
import { FurtherSampling, GenerateRequest } from '../../../shared/protocol/request.ts'

/** The fields of another API, under our names, as a request; null means absent. `apar`: what that API has no fields for. */
export function toGenerateRequest(fields: object, apar: Apar | null | undefined): GenerateRequest {
  const options = Object.entries(apar ?? {})
  const isSampling = ([name]: readonly [string, unknown]) => name in FurtherSampling.shape
  const branching = options.filter((option) => !isSampling(option))
  const request = {
    ...Object.fromEntries(options.filter(isSampling)),
    branching: branching.length > 0 ? Object.fromEntries(branching) : undefined,
    ...fields,
  }
  const given = Object.entries(request).filter(([, value]) => value !== undefined && value !== null)
  return parse(GenerateRequest, Object.fromEntries(given))
}

/** Text, or its parts. */
export function joinedText(content: string | readonly { readonly text: string }[]): string {
  return typeof content === 'string' ? content : content.map(({ text }) => text).join('')
}
