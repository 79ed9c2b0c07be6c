import type { ChatMessage, GenerateRequest } from '../../shared/protocol/request.ts'
import { Recording } from './answer/recording.ts'
import type { Message, Settings } from './history/conversation.ts'

/** The request that asks for an answer to the last message of `path`. */
export function requestFor(path: readonly Message[], settings: Settings, model: string): GenerateRequest {
  const { system, parallel, temperature, top_p, max_tokens, seed, trace } = settings
  const messages: ChatMessage[] = system?.trim() ? [{ role: 'system', content: system }] : []
  for (const message of path) {
    const content = message.role === 'user' ? message.text : new Recording(message.recorded.events).text()
    const last = messages.at(-1)
    // An answer that failed before its first text. Templates expect turns to alternate, so prompts around it are one.
    if (content === '') continue
    if (last?.role === message.role) last.content += `\n\n${content}`
    else messages.push({ role: message.role, content })
  }
  const given = Object.entries({ temperature, top_p, max_tokens, seed, trace }).filter(
    ([, value]) => value !== undefined,
  )
  return { model, messages, branching: { enabled: parallel }, ...Object.fromEntries(given) }
}
