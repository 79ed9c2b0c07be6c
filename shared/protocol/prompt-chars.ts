import type { GenerateRequest } from './types/request.ts'

type Prompt = Pick<GenerateRequest, 'messages' | 'tools'>

/** Characters of what becomes a prompt's text, in UTF-16 code units. */
export function promptChars(prompt: Prompt): number {
  const contents = prompt.messages.reduce((sum, { content }) => sum + content.length, 0)
  return contents + besideContents(prompt).length
}

/**
 * What is in a prompt beside the contents of its messages: reasoning, and as JSON the tools and their calls. A template
 * may add white space and names.
 */
export function besideContents({ messages, tools }: Prompt): string {
  const calls = messages.flatMap(({ tool_calls = [] }) => tool_calls)
  const reasoning = messages.map(({ reasoning_content = '' }) => reasoning_content).join('')
  return (tools ? JSON.stringify(tools) : '') + (calls.length > 0 ? JSON.stringify(calls) : '') + reasoning
}
