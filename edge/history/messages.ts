import type { MessagesRequest } from '../../shared/anthropic.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import type { MessageBlock } from '../../shared/requests/message-blocks.ts'
import { paragraphs, toolCallText, toolResultText } from './tool-text.ts'

type Content = MessagesRequest['messages'][number]['content']

/** Anthropic's messages as those of apar. */
export function messagesHistory({
  system,
  messages,
}: Pick<MessagesRequest, 'system' | 'messages'>): GenerateRequest['messages'] {
  const turns = messages.map(({ role, content }) => ({ role, content: textOf(content) }))
  const first = system === undefined ? '' : textOf(system)
  return first === '' ? turns : [{ role: 'system', content: first }, ...turns]
}

/** Texts that follow each other are one text; calls of tools and their results stand on lines of their own. */
function textOf(content: Content): string {
  if (typeof content === 'string') return content
  const parts: string[] = []
  let afterText = false
  for (const block of content) {
    const text = textOfBlock(block)
    const isText = block.type === 'text'
    if (isText && afterText) parts.push(`${parts.pop() ?? ''}${text}`)
    else parts.push(text)
    afterText = isText
  }
  return paragraphs(parts)
}

function textOfBlock(block: MessageBlock): string {
  switch (block.type) {
    case 'text':
      return block.text
    case 'tool_use':
      return toolCallText(block.name, JSON.stringify(block.input))
    case 'tool_result':
      return toolResultText(textOf(block.content ?? ''))
    default:
      return ''
  }
}
