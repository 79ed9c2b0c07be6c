import type { ChatCompletionChunk } from '../../shared/openai.ts'
import type { StreamEvent } from '../../shared/protocol/events.ts'
import type { ChatAnswer } from './answer.ts'

/** The chunks of one answer; `includeUsage` adds the last one, with the usage, and `usage: null` to all others. */
export async function* toChunks(
  answer: ChatAnswer,
  events: AsyncIterable<StreamEvent>,
  includeUsage: boolean,
): AsyncGenerator<ChatCompletionChunk, void> {
  const dress = (chunk: ChatCompletionChunk) => (includeUsage ? { ...chunk, usage: null } : chunk)
  yield dress(answer.roleChunk())
  for await (const event of events) {
    const content = answer.push(event)
    if (content !== '') yield dress(answer.contentChunk(content))
    if (event.type !== 'done') continue
    yield dress(answer.finishChunk())
    if (includeUsage) yield answer.usageChunk()
  }
}
