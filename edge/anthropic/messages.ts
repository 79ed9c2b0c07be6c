import type { MessagesRequest } from '../../shared/anthropic.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import { outputFormatOf } from '../../shared/requests/answer-format.ts'
import { messageToolsOf } from '../../shared/requests/tools.ts'
import { messagesHistory } from '../history/messages.ts'
import { aparUsage } from '../streams/http/apar-usage.ts'
import {
  samplingOf,
  stopsInDocument,
  templateOptionsOf,
  toGenerateRequest,
} from '../streams/http/generate-request.ts'
import type { SingleAnswer } from '../streams/http/single-answer.ts'
import type { Thinking } from '../streams/http/thinking.ts'
import { BlockEvents, textBlock, thinkingBlock, toolUse } from './blocks.ts'

export function messagesRequest(body: MessagesRequest): GenerateRequest {
  const { model, max_tokens, temperature, top_p, stop_sequences: stop } = body
  const messages = messagesHistory(body)
  const { chat_template_kwargs } = body
  const last = messages.at(-1)
  const continues = last?.role === 'assistant' && last.tool_calls === undefined
  const fields = {
    ...{ model, messages, max_tokens, temperature, top_p, stop, ...samplingOf(body) },
    ...templateOptionsOf({ chat_template_kwargs, continue_final_message: continues }, thinkingOf(body)),
    output_format: outputFormatOf(body)?.format,
    ...messageToolsOf(body),
  }
  return stopsInDocument(toGenerateRequest(fields, body.apar))
}

function thinkingOf({ thinking, output_config }: MessagesRequest): Thinking {
  const effort = output_config?.effort
  if (thinking?.type === 'disabled') return { enabled: false }
  if (thinking?.type !== 'enabled') return { effort }
  return { enabled: true, effort, budgetTokens: thinking.budget_tokens }
}

/** Whether the text of thinking is part of the answer. */
function showsThinking({ thinking }: MessagesRequest): boolean {
  return thinking?.display !== 'omitted'
}

/** The whole answer. `isMarked`: for the cache. @throws AparError for a stream that fails. */
export async function wholeMessage(
  body: MessagesRequest,
  answer: SingleAnswer,
  isMarked: boolean,
): Promise<object> {
  await answer.whole()
  return {
    ...message(answer),
    content: contentOf(answer, showsThinking(body)),
    ...stopOf(answer),
    usage: usageOf(answer, isMarked),
    ...answer.apar,
  }
}

/** The answer as Anthropic's named events. `isMarked`: for the cache. @throws AparError for a stream that fails. */
export async function* messageEvents(
  body: MessagesRequest,
  answer: SingleAnswer,
  isMarked: boolean,
): AsyncGenerator<object, void> {
  yield { type: 'message_start', message: { ...message(answer), usage: usageAtStart(answer) } }
  const blocks = new BlockEvents(answer.accepted.stream, showsThinking(body))
  for await (const part of answer.parts()) yield* blocks.of(part)
  yield* blocks.end()
  yield { type: 'message_delta', delta: stopOf(answer), usage: usageOf(answer, isMarked), ...answer.apar }
  yield { type: 'message_stop' }
}

/** An answer of calls only has no text. */
function contentOf({ accepted, reasoning, text, calls }: SingleAnswer, shows: boolean): object[] {
  const thoughts = reasoning === '' ? [] : [thinkingBlock(shows ? reasoning : '', accepted.stream)]
  const uses = calls.map(({ id, name, arguments: args }) => toolUse(id, name, inputOf(args)))
  const texts = text === '' && (uses.length > 0 || thoughts.length > 0) ? [] : [textBlock(text)]
  return [...thoughts, ...texts, ...uses]
}

/** Those of a call that was cut off are left out. */
function inputOf(args: string): object {
  try {
    return JSON.parse(args)
  } catch {
    return {}
  }
}

function message({ accepted }: SingleAnswer) {
  return {
    id: `msg_${accepted.stream}`,
    type: 'message',
    role: 'assistant',
    model: accepted.model,
    content: [],
    stop_reason: null,
    stop_sequence: null,
  }
}

function stopOf(answer: SingleAnswer) {
  if (answer.stop !== undefined) return { stop_reason: 'stop_sequence', stop_sequence: answer.stop }
  const whole = answer.calls.length > 0 ? 'tool_use' : 'end_turn'
  return { stop_reason: answer.cut ? 'max_tokens' : whole, stop_sequence: null }
}

/** Which of the prompt's tokens are cached is known at the end only; `message_delta` has these counts again. */
function usageAtStart({ accepted }: SingleAnswer) {
  const input_tokens = accepted.prompt_tokens ?? 0
  return { input_tokens, output_tokens: 0, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 }
}

/**
 * Anthropic's `input_tokens` are those that were neither read from the cache nor written to it. The prefix cache keeps the
 * whole prompt; with a marker the caller wants to know.
 */
function usageOf({ usage }: SingleAnswer, isMarked: boolean) {
  const computed = usage.prompt_tokens - usage.cached_prompt_tokens
  return {
    input_tokens: isMarked ? 0 : computed,
    cache_creation_input_tokens: isMarked ? computed : 0,
    cache_read_input_tokens: usage.cached_prompt_tokens,
    output_tokens: usage.completion_tokens,
    ...(usage.reasoning_tokens !== undefined && {
      output_tokens_details: { thinking_tokens: usage.reasoning_tokens },
    }),
    ...aparUsage([usage]),
  }
}
