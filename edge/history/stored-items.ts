import type { ResponseContent, ResponseItem } from '../../shared/requests/response-items.ts'

/** An item of an input as it is stored and listed: in OpenAI's form, with an id of its own. */
export type StoredItem = { readonly id: string; readonly type: string } & Readonly<Record<string, unknown>>

/** Names of other items, which are in their places by now, are left out. */
export function storedItems(items: readonly ResponseItem[]): StoredItem[] {
  return items.flatMap((item): StoredItem[] => {
    if ('role' in item) {
      const { role, content } = item
      return [{ ...head('msg', 'message'), role, content: partsOf(content, role === 'assistant') }]
    }
    switch (item.type) {
      case 'function_call':
      case 'custom_tool_call': {
        const { type, call_id, name, arguments: args, input } = item
        return [
          { ...head('fc', type), call_id, name, ...(args === undefined ? { input } : { arguments: args }) },
        ]
      }
      case 'function_call_output':
      case 'custom_tool_call_output':
        return [{ ...head('fco', item.type), call_id: item.call_id, output: outputOf(item.output) }]
      case 'reasoning': {
        const { summary = [], content = [] } = item
        if (summary.length + content.length === 0) return []
        return [{ ...head('rs', 'reasoning'), summary, content }]
      }
      default:
        return []
    }
  })
}

function head(prefix: string, type: string) {
  return { id: `${prefix}_${crypto.randomUUID().replaceAll('-', '')}`, type, status: 'completed' }
}

function partsOf(content: ResponseContent, isAnswer: boolean): object[] {
  if (typeof content !== 'string') {
    return content.map((part) => (part.type === 'refusal' ? part : textPart(part.text, isAnswer)))
  }
  return [textPart(content, isAnswer)]
}

function textPart(text: string, isAnswer: boolean): object {
  return isAnswer ? { type: 'output_text', text, annotations: [] } : { type: 'input_text', text }
}

function outputOf(output: ResponseContent): string | object[] {
  return typeof output === 'string' ? output : partsOf(output, false)
}
