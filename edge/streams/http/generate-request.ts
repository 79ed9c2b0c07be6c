import { parse } from '../../../shared/parse.ts'
import { GenerateRequest } from '../../../shared/protocol/request.ts'

type AparOptions = NonNullable<GenerateRequest['branching']> &
  Pick<GenerateRequest, 'top_k' | 'min_p' | 'repetition_penalty'>

/** The fields of another API, under our names, as a request; null means absent. `apar`: what that API has no fields for. */
export function toGenerateRequest(fields: object, apar: AparOptions | null | undefined): GenerateRequest {
  const { top_k, min_p, repetition_penalty, ...branching } = apar ?? {}
  const request = {
    top_k,
    min_p,
    repetition_penalty,
    branching: Object.keys(branching).length > 0 ? branching : undefined,
    ...fields,
  }
  const given = Object.entries(request).filter(([, value]) => value !== undefined && value !== null)
  return parse(GenerateRequest, Object.fromEntries(given))
}

/** Text, or its parts. */
export function joinedText(content: string | readonly { readonly text: string }[]): string {
  return typeof content === 'string' ? content : content.map(({ text }) => text).join('')
}
