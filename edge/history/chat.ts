import type { ChatMessage, GenerateRequest } from '../../shared/protocol/request.ts'
import type { ChatPart, ChatMessage as OpenAiMessage, ToolCall } from '../../shared/requests/chat-messages.ts'
import { CallIds } from './call-ids.ts'

/** OpenAI's messages as those of apar. */
export function chatHistory(messages: readonly OpenAiMessage[]): GenerateRequest['messages'] {
  const ids = new CallIds()
  return messages.map((message) => fromOpenAi(message, ids))
}

function fromOpenAi(message: OpenAiMessage, ids: CallIds): ChatMessage {
  switch (message.role) {
    case 'tool':
    case 'function': {
      const { content, tool_call_id } = message
      return { role: 'tool', content: textOf(content), ...(tool_call_id !== undefined && { tool_call_id }) }
    }
    case 'assistant': {
      const { content, refusal = '', tool_calls = [], function_call } = message
      const called = function_call ? [{ function: function_call }, ...tool_calls] : tool_calls
      const calls = called.flatMap((call) => toCall(call, ids))
      const text = textOf(content) || refusal
      return {
        role: 'assistant',
        content: text,
        ...reasoningOf(message),
        ...(calls.length > 0 && { tool_calls: calls }),
      }
    }
    case 'developer':
      return { role: 'system', content: textOf(message.content) }
    default:
      return { role: message.role, content: textOf(message.content) }
  }
}

function reasoningOf({
  reasoning_content,
  reasoning,
}: {
  reasoning_content?: string | undefined
  reasoning?: unknown
}) {
  const text = reasoning_content ?? (typeof reasoning === 'string' ? reasoning : '')
  return text === '' ? {} : { reasoning_content: text }
}

function toCall({ id, function: called, custom }: ToolCall, ids: CallIds) {
  if (called) return [ids.call(id, called.name, called.arguments)]
  return custom ? [ids.call(id, custom.name, JSON.stringify({ input: custom.input }))] : []
}

function textOf(content: string | readonly ChatPart[] = ''): string {
  if (typeof content === 'string') return content
  return content.map((part) => (part.type === 'refusal' ? part.refusal : part.text)).join('')
}
