import type { GenerateRequest } from './types/request.ts'

type Prompt = Pick<GenerateRequest, 'messages' | 'tools'>

/** Characters of what becomes a prompt's text, in UTF-16 code units. */
export function promptChars(prompt: Prompt): number {
  const contents = prompt.messages.reduce((sum, { content }) => sum + content.length, 0)
  return contents + toolText(prompt).length
}

/** The tools and their calls in a prompt, as JSON; a template may add white space and names. */
export function toolText({ messages, tools }: Prompt): string {
  const calls = messages.flatMap(({ tool_calls = [] }) => tool_calls)
  return (tools ? JSON.stringify(tools) : '') + (calls.length > 0 ? JSON.stringify(calls) : '')
}
