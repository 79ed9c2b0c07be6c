import type { ChatCompletionRequest } from '../../shared/openai.ts'
import { parse } from '../../shared/parse.ts'
import type { ChatMessage } from '../../shared/protocol/request.ts'
import { GenerateRequest } from '../../shared/protocol/request.ts'

/** OpenAI's request as apar's. */
export function toGenerateRequest(body: ChatCompletionRequest): GenerateRequest {
  const { top_k, min_p, repetition_penalty, ...branching } = body.apar ?? {}
  const request = {
    model: body.model,
    messages: body.messages.map(toChatMessage),
    max_tokens: body.max_completion_tokens ?? body.max_tokens,
    temperature: body.temperature,
    top_p: body.top_p,
    top_k,
    min_p,
    repetition_penalty,
    seed: body.seed,
    stop: typeof body.stop === 'string' ? [body.stop] : body.stop,
    branching: Object.keys(branching).length > 0 ? branching : undefined,
  }
  const given = Object.entries(request).filter(([, value]) => value !== undefined && value !== null)
  return parse(GenerateRequest, Object.fromEntries(given))
}

function toChatMessage({ role, content }: ChatCompletionRequest['messages'][number]): ChatMessage {
  return {
    role: role === 'developer' ? 'system' : role,
    content: typeof content === 'string' ? content : content.map(({ text }) => text).join(''),
  }
}
