import type { ChatMessage, GenerateRequest } from '../../shared/protocol/request.ts'
import type { ResponseContent, ResponseItem } from '../../shared/requests/response-items.ts'
import { paragraphs, toolCallText, toolResultText } from './tool-text.ts'

type Kind = 'call' | 'output' | 'answer' | 'question'

/** Items as messages. Calls follow the assistant's text in its message; the outputs of several calls are one message. */
export function responsesHistory(items: readonly ResponseItem[]): GenerateRequest['messages'] {
  const history: ChatMessage[] = []
  let before: Kind | undefined
  for (const item of items) {
    const next = fromItem(item)
    if (!next) continue
    const last = history.at(-1)
    const joins = next.kind === 'call' ? before === 'call' || before === 'answer' : before === 'output'
    if (last && joins && next.kind !== 'question' && next.kind !== 'answer')
      last.content = paragraphs([last.content, next.message.content])
    else history.push(next.message)
    before = next.kind
  }
  return history
}

/** undefined for an item without text. */
function fromItem(item: ResponseItem): { kind: Kind; message: ChatMessage } | undefined {
  if ('role' in item) {
    const role = item.role === 'developer' ? 'system' : item.role
    const kind = role === 'assistant' ? 'answer' : 'question'
    return { kind, message: { role, content: textOf(item.content) } }
  }
  switch (item.type) {
    case 'function_call':
    case 'custom_tool_call': {
      const content = toolCallText(item.name, item.arguments ?? item.input ?? '')
      return { kind: 'call', message: { role: 'assistant', content } }
    }
    case 'function_call_output':
    case 'custom_tool_call_output': {
      return { kind: 'output', message: { role: 'user', content: toolResultText(textOf(item.output)) } }
    }
    default:
      return undefined
  }
}

/** Paths of the items that name stored ones: they add nothing, because nothing is stored. */
export function unresolvedItems(items: readonly ResponseItem[]): string[] {
  return items.flatMap(({ type }, index) => (type === 'item_reference' ? [`input.${index}`] : []))
}

function textOf(content: ResponseContent): string {
  if (typeof content === 'string') return content
  return content.map((part) => (part.type === 'refusal' ? part.refusal : part.text)).join('')
}
