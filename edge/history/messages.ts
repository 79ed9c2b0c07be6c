import type { MessagesRequest } from '../../shared/anthropic.ts'
import type { ChatMessage, GenerateRequest } from '../../shared/protocol/request.ts'
import type { MessageBlock } from '../../shared/requests/message-blocks.ts'
import { CallIds } from './call-ids.ts'

type Message = MessagesRequest['messages'][number]

/** Anthropic's messages as those of apar: each result of a tool is a message of its own. */
export function messagesHistory({
  system,
  messages,
}: Pick<MessagesRequest, 'system' | 'messages'>): GenerateRequest['messages'] {
  const ids = new CallIds()
  const turns = messages.flatMap((message) => turnsOf(message, ids))
  const first = system === undefined ? '' : textOf(system)
  return first === '' ? turns : [{ role: 'system', content: first }, ...turns]
}

function turnsOf({ role, content }: Message, ids: CallIds): ChatMessage[] {
  if (typeof content === 'string') return [{ role, content }]
  const turns: ChatMessage[] = []
  for (const block of content) add(turns, role, block, ids)
  return turns.length > 0 ? turns : [{ role, content: '' }]
}

/** Texts that follow each other are one text, and calls belong to the text before them. */
function add(turns: ChatMessage[], role: Message['role'], block: MessageBlock, ids: CallIds): void {
  const last = turns.at(-1)
  const current: ChatMessage = last && last.role === role ? last : { role, content: '' }
  const isNew = current !== last
  if (block.type === 'tool_result') {
    const { tool_use_id, content = '' } = block
    turns.push({
      role: 'tool',
      content: textOf(content),
      ...(tool_use_id !== undefined && { tool_call_id: tool_use_id }),
    })
  } else if (block.type === 'tool_use') {
    const call = ids.call(block.id, block.name, JSON.stringify(block.input))
    current.tool_calls = [...(current.tool_calls ?? []), call]
    if (isNew) turns.push(current)
  } else if (block.type === 'thinking') {
    const { thinking = '' } = block
    if (thinking === '' || role !== 'assistant') return
    current.reasoning_content = (current.reasoning_content ?? '') + thinking
    if (isNew) turns.push(current)
  } else if (block.type === 'text') {
    current.content += block.text
    if (isNew) turns.push(current)
  }
}

function textOf(content: string | readonly { readonly text: string }[]): string {
  return typeof content === 'string' ? content : content.map(({ text }) => text).join('')
}
