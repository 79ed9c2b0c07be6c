import type { ChatMessage, GenerateRequest } from '../../shared/protocol/request.ts'
import type { ResponseContent, ResponseItem } from '../../shared/requests/response-items.ts'
import { CallIds } from './call-ids.ts'

/** Items as messages. Calls belong to the assistant's text before them. */
export function responsesHistory(items: readonly ResponseItem[]): GenerateRequest['messages'] {
  const ids = new CallIds()
  const history: ChatMessage[] = []
  /** It comes before the text or the call that it led to. */
  let thought: string | undefined
  for (const item of items) {
    if ('role' in item) {
      const role = item.role === 'developer' ? 'system' : item.role
      const reasoning = role === 'assistant' && thought ? { reasoning_content: thought } : {}
      history.push({ role, content: textOf(item.content), ...reasoning })
      thought = undefined
    } else if (item.type === 'reasoning') thought = reasoningOf(item)
    else if (item.type === 'function_call' || item.type === 'custom_tool_call') {
      const args = item.arguments ?? JSON.stringify({ input: item.input ?? '' })
      addCall(history, ids.call(item.call_id, item.name, args), thought)
      thought = undefined
    } else if (item.type === 'function_call_output' || item.type === 'custom_tool_call_output') {
      const { call_id, output } = item
      history.push({
        role: 'tool',
        content: textOf(output),
        ...(call_id !== undefined && { tool_call_id: call_id }),
      })
    }
  }
  return history
}

function addCall(
  history: ChatMessage[],
  call: NonNullable<ChatMessage['tool_calls']>[number],
  thought: string | undefined,
): void {
  const last = history.at(-1)
  const reasoning = thought ? { reasoning_content: thought } : {}
  if (last?.role === 'assistant' && !thought) last.tool_calls = [...(last.tool_calls ?? []), call]
  else history.push({ role: 'assistant', content: '', ...reasoning, tool_calls: [call] })
}

/** Servers put the text into `content`, and OpenAI its summary into `summary`. */
function reasoningOf({ content = [], summary = [] }: Extract<ResponseItem, { type: 'reasoning' }>): string {
  const parts = content.length > 0 ? content : summary
  return parts.map(({ text = '' }) => text).join('\n')
}

/** Ids of the stored items that the items name. */
export function namedIds(items: readonly ResponseItem[]): string[] {
  return items.flatMap((item) => (item.type === 'item_reference' ? [item.id] : []))
}

/** The items, with those that they name in their places. */
export function resolveItems(
  items: readonly ResponseItem[],
  named: ReadonlyMap<string, ResponseItem>,
): ResponseItem[] {
  return items.map((item) => (item.type === 'item_reference' ? (named.get(item.id) ?? item) : item))
}

/** Paths of the items that name others, which are not stored: they add nothing. */
export function unresolvedItems(items: readonly ResponseItem[]): string[] {
  return items.flatMap(({ type }, index) => (type === 'item_reference' ? [`input.${index}`] : []))
}

function textOf(content: ResponseContent): string {
  if (typeof content === 'string') return content
  return content.map((part) => (part.type === 'refusal' ? part.refusal : part.text)).join('')
}
