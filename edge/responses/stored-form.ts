import type { ResponseItem } from '../../shared/requests/response-items.ts'
import { storedItems } from '../history/stored-items.ts'
import type { ResponseBody } from '../openai/responses.ts'
import type { StoredResponse } from './response-tables.ts'

/** `input`: of the request itself. */
export function toStored(body: ResponseBody, input: readonly ResponseItem[]): StoredResponse {
  const previous = body.previous_response_id
  return {
    id: body.id,
    previous: typeof previous === 'string' ? previous : undefined,
    input: JSON.stringify(storedItems(input)),
    ...storedBody(body),
  }
}

export function storedBody({ output, ...response }: ResponseBody) {
  return { output: JSON.stringify(output), response: JSON.stringify(response) }
}

/** As it was returned. */
export function fromStored({ response, output }: Pick<StoredResponse, 'response' | 'output'>): ResponseBody {
  return { ...JSON.parse(response), output: JSON.parse(output) }
}

/** Ids of the items of its output. */
export function itemIds({ output }: Pick<ResponseBody, 'output'>): string[] {
  return output.flatMap((item) => ('id' in item ? [String(item.id)] : []))
}

/** A response that has run in the background as it was answered first. */
export function asQueued({ apar: _, ...response }: ResponseBody): ResponseBody {
  const nothing = { error: null, incomplete_details: null, usage: null, output: [] }
  return { ...response, ...nothing, status: 'queued' }
}
