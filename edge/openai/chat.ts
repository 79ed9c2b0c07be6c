import type {
  BranchAddress,
  ChatCompletion,
  ChatCompletionChunk,
  ChatLogprobs,
  ChatToolCallDelta,
  FinishReason,
  ReasoningText,
} from '../../shared/openai.ts'
import type { StreamEvent, TokenLogprob } from '../../shared/protocol/events.ts'
import { type CallPart, Choice } from '../streams/http/choice.ts'
import type { Streams } from '../streams/http/streams.ts'
import { callId } from './call-id.ts'
import { traceChunk } from './trace-chunk.ts'
import { openAiUsage, runningUsage } from './usage.ts'

type Chunk = ChatCompletionChunk
type Delta = Chunk['choices'][number]['delta']

export interface ChatOptions {
  /** Adds a last chunk with the usage, and `usage: null` to all others. */
  readonly includeUsage: boolean
  /** The request asked for log-probabilities. */
  readonly logprobs: boolean
  readonly stop: readonly string[]
  /** Sends text as it comes, with its branch, instead of in document order. */
  readonly branchDeltas: boolean
  /** Whether the answer has its reasoning. */
  readonly showsReasoning: boolean
  /** Calls come in the older field `function_call`. */
  readonly asFunctions: boolean
  /** Every chunk has the usage until then. */
  readonly countsTokens?: boolean | undefined
  /** The answer has the ids of its prompt's tokens and of its own. */
  readonly tokenIds?: boolean | undefined
}

/** The streams of a call as OpenAI's chunks, one stream per choice. @throws AparError for a stream that fails. */
export async function* chatChunks(streams: Streams, options: ChatOptions): AsyncGenerator<Chunk, void> {
  const { includeUsage, branchDeltas, countsTokens, tokenIds, showsReasoning, asFunctions } = options
  // Texts of branches have no document order: each branch ends at its own stop string.
  const stop = branchDeltas ? [] : options.stop
  const head = headOf(streams, 'chat.completion.chunk')
  const choices = streams.accepted.map((accepted) => new Choice(accepted, stop))
  const chunk = (
    index: number,
    delta: Delta,
    more: { finish?: FinishReason; logprobs?: ChatLogprobs; ended?: Choice | undefined } = {},
  ) => ({
    ...head,
    choices: [
      {
        ...{ index, delta, logprobs: more.logprobs ?? null, finish_reason: more.finish ?? null },
        ...(more.ended && matchedStop(more.ended)),
        ...(tokenIds && { token_ids: choices[index]?.takeTokenIds() ?? [] }),
      },
    ],
    ...(includeUsage && {
      usage: countsTokens ? runningUsage(streams.accepted, choices, choices.length) : null,
    }),
  })
  for (const [index, { joints, prompt_token_ids }] of streams.accepted.entries()) {
    const prompt = tokenIds && { prompt_token_ids: prompt_token_ids ?? [] }
    const begin = { ...chunk(index, { role: 'assistant', content: '' }), ...prompt }
    yield branchDeltas ? { ...begin, apar: { event: 'accepted', joints } } : begin
  }
  for await (const [index, event] of streams.events) {
    const growth = choices[index]?.push(event)
    const isHidden = event.type === 'reasoning' && !showsReasoning
    const address = branchDeltas && !isHidden ? addressOf(event) : undefined
    if (growth && growth.reasoning !== '' && !branchDeltas && showsReasoning)
      yield chunk(index, reasoningText(growth.reasoning))
    if (address) {
      const delta = deltaOf(event)
      const rows = event.type === 'delta' ? event.logprobs : undefined
      yield { ...chunk(index, delta, rows && { logprobs: chatLogprobs(rows) }), apar: address }
    } else if (growth && growth.text !== '' && !branchDeltas) {
      const logprobs = options.logprobs && { logprobs: chatLogprobs(growth.logprobs) }
      yield chunk(index, { content: growth.text }, logprobs || {})
    } else if (event.type === 'trace') yield { ...chunk(index, {}), apar: traceChunk(event) }
    if (growth?.call) {
      const call = callDelta(growth.call)
      yield chunk(index, asFunctions ? { function_call: call.function } : { tool_calls: [call] })
    }
    if (event.type === 'done') {
      const ended = choices[index]
      yield chunk(index, {}, { finish: finishOf(ended, asFunctions), ended })
    }
  }
  if (includeUsage) yield { ...head, choices: [], usage: usageOf(choices) }
}

/** The whole answer. @throws AparError for a stream that fails. */
export async function chatCompletion(
  streams: Streams,
  options: Pick<ChatOptions, 'logprobs' | 'stop' | 'showsReasoning' | 'asFunctions' | 'tokenIds'>,
): Promise<ChatCompletion> {
  const answers = streams.accepted.map((accepted) => {
    const choice = new Choice(accepted, options.stop)
    return { choice, content: '', reasoning: '', rows: [] as TokenLogprob[] }
  })
  for await (const [index, event] of streams.events) {
    const answer = answers[index]
    if (!answer) continue
    const { text, logprobs, reasoning } = answer.choice.push(event)
    answer.content += text
    if (options.showsReasoning) answer.reasoning += reasoning
    answer.rows.push(...logprobs)
  }
  return {
    ...headOf(streams, 'chat.completion'),
    choices: answers.map(({ choice, content, reasoning, rows }, index) => ({
      index,
      message: {
        role: 'assistant',
        ...messageOf(choice, content, options.asFunctions),
        ...reasoningText(reasoning),
      },
      logprobs: options.logprobs ? chatLogprobs(rows) : null,
      finish_reason: finishOf(choice, options.asFunctions),
      ...choice.apar,
      ...matchedStop(choice),
      ...(options.tokenIds && { token_ids: choice.takeTokenIds() }),
    })),
    ...(options.tokenIds && { prompt_token_ids: answers[0]?.choice.promptTokenIds ?? [] }),
    usage: usageOf(answers.map(({ choice }) => choice)),
  }
}

/** An answer of calls only has no content. */
function messageOf(
  { calls }: Choice,
  content: string,
  asFunctions: boolean,
): Omit<ChatCompletion['choices'][number]['message'], 'role'> {
  if (calls.length === 0) return { content, refusal: null }
  const tool_calls = calls.map(({ id, name, arguments: args }) => {
    return { id: callId(id), type: 'function' as const, function: { name, arguments: args } }
  })
  const said = { content: content === '' ? null : content, refusal: null }
  const [first] = tool_calls
  return asFunctions && first ? { ...said, function_call: first.function } : { ...said, tool_calls }
}

function finishOf(choice: Choice | undefined, asFunctions: boolean): FinishReason {
  const reason = choice?.finishReason ?? 'stop'
  return asFunctions && reason === 'tool_calls' ? 'function_call' : reason
}

function reasoningText(text: string): ReasoningText {
  return text === '' ? {} : { reasoning_content: text, reasoning: text }
}

/** Of a branch. */
function deltaOf(event: StreamEvent): Delta {
  if (event.type === 'reasoning') return reasoningText(event.text)
  return event.type === 'delta' ? { content: event.text } : {}
}

function callDelta(part: CallPart): ChatToolCallDelta {
  const { call: index } = part
  if (part.type === 'tool_arguments') return { index, function: { arguments: part.text } }
  return { index, id: callId(part.call_id), type: 'function', function: { name: part.name, arguments: '' } }
}

/** As SGLang names what ended the text, if it was a stop string or one of `stop_token_ids`. */
function matchedStop({ matchedStop: matched_stop }: Choice) {
  return matched_stop === undefined ? {} : { matched_stop }
}

function headOf<O extends string>({ accepted: [first] }: Streams, object: O) {
  if (!first) throw new Error('no stream was started')
  const { stream, created, model, fingerprint = null } = first
  return { id: `chatcmpl-${stream}`, object, created, model, system_fingerprint: fingerprint }
}

/** All choices answer the same messages. */
function usageOf(choices: readonly Choice[]) {
  return openAiUsage(
    choices.map(({ usage }) => usage),
    choices.length,
  )
}

function addressOf(event: StreamEvent): BranchAddress | undefined {
  switch (event.type) {
    case 'fork':
      return {
        ...{ event: 'fork', branch: event.branch, parent: event.parent, at: event.at },
        ...(event.reasoning_at !== undefined && { reasoning_at: event.reasoning_at }),
      }
    case 'reasoning':
      return { event: 'reasoning', branch: event.branch }
    case 'delta':
      return { event: 'delta', branch: event.branch }
    case 'branch_end':
      return { event: 'branch_end', branch: event.branch, reason: event.reason }
    default:
      return undefined
  }
}

function chatLogprobs(rows: readonly TokenLogprob[]): ChatLogprobs {
  const content = rows.map(({ token, bytes, logprob, top }) => {
    return { token, bytes, logprob, top_logprobs: top }
  })
  return { content, refusal: null }
}
