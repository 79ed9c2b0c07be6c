/** The id of a call as OpenAI's APIs write it. */
export function callId(id: string): string {
  return `call_${id}`
}
