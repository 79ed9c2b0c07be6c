import type { ChatMessage, GenerateRequest } from '../../shared/protocol/request.ts'
import type { ChatPart, ChatMessage as OpenAiMessage, ToolCall } from '../../shared/requests/chat-messages.ts'
import { paragraphs, toolCallText, toolResultText } from './tool-text.ts'

/** OpenAI's messages as those of apar. The results of tools that follow each other are one message of the user. */
export function chatHistory(messages: readonly OpenAiMessage[]): GenerateRequest['messages'] {
  const history: ChatMessage[] = []
  let afterTool = false
  for (const message of messages) {
    const isTool = message.role === 'tool' || message.role === 'function'
    const next = fromOpenAi(message)
    const last = history.at(-1)
    if (isTool && afterTool && last) last.content = paragraphs([last.content, next.content])
    else history.push(next)
    afterTool = isTool
  }
  return history
}

function fromOpenAi(message: OpenAiMessage): ChatMessage {
  switch (message.role) {
    case 'tool':
    case 'function':
      return { role: 'user', content: toolResultText(textOf(message.content)) }
    case 'assistant': {
      const { content, refusal = '', tool_calls = [], function_call } = message
      const calls = function_call ? [{ function: function_call }, ...tool_calls] : tool_calls
      return {
        role: 'assistant',
        content: paragraphs([textOf(content) || refusal, ...calls.map(textOfCall)]),
      }
    }
    case 'developer':
      return { role: 'system', content: textOf(message.content) }
    default:
      return { role: message.role, content: textOf(message.content) }
  }
}

function textOfCall({ function: called, custom }: ToolCall): string {
  if (called) return toolCallText(called.name, called.arguments)
  return custom ? toolCallText(custom.name, custom.input) : ''
}

function textOf(content: string | readonly ChatPart[] = ''): string {
  if (typeof content === 'string') return content
  return content.map((part) => (part.type === 'text' ? part.text : part.refusal)).join('')
}
