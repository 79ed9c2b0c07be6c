import { parse } from '../../../shared/parse.ts'
import { GenerateRequest } from '../../../shared/protocol/request.ts'

type AparOptions = NonNullable<GenerateRequest['branching']> &
  Pick<GenerateRequest, 'top_k' | 'min_p' | 'repetition_penalty'>

/**
 * A request from the fields of another API, under apar's names; null means absent. `apar`: options that the other API
 * does not have.
 */
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

/** The text of a message's content. */
export function joinedText(content: string | readonly { readonly text: string }[]): string {
  return typeof content === 'string' ? content : content.map(({ text }) => text).join('')
}
