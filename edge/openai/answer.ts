import { OrderedText } from '../../shared/branch-tree.ts'
import { AparError } from '../../shared/errors.ts'
import type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionUsage,
  ChatFinishReason,
} from '../../shared/openai.ts'
import type { AcceptedEvent, StreamEvent, Usage } from '../../shared/protocol/events.ts'

type Chunk = ChatCompletionChunk
type Choice = Chunk['choices'][number]

/**
 * One stream's events as OpenAI's chunks or object, its text in document order. Feed it every event of a stream, the
 * `accepted` event first.
 */
export class ChatAnswer {
  readonly #accepted: AcceptedEvent
  readonly #ordered: OrderedText
  #content = ''
  #finishReason: ChatFinishReason = 'stop'
  #usage: ChatCompletionUsage | undefined

  constructor(accepted: AcceptedEvent) {
    this.#accepted = accepted
    this.#ordered = new OrderedText(accepted.joints)
  }

  /**
   * The text that this event made final; often ''.
   * @throws AparError for the event of a failed stream.
   */
  push(event: StreamEvent): string {
    if (event.type === 'error') throw streamError(event)
    const text = this.#ordered.push(event)
    this.#content += text
    if (event.type === 'done') {
      const root = this.#ordered.tree.branch(0)?.reason
      this.#finishReason = event.reason === 'length' || root === 'length' ? 'length' : 'stop'
      this.#usage = openAiUsage(event.usage)
    }
    return text
  }

  /** Says that the answer begins. */
  roleChunk(): Chunk {
    return this.#chunk({ role: 'assistant', content: '' }, null)
  }

  contentChunk(content: string): Chunk {
    return this.#chunk({ content }, null)
  }

  /** Valid after `done`. */
  finishChunk(): Chunk {
    return this.#chunk({}, this.#finishReason)
  }

  /** Valid after `done`. */
  usageChunk(): Chunk {
    return { ...this.#head('chat.completion.chunk'), choices: [], usage: this.#finalUsage() }
  }

  /** Valid after `done`. */
  completion(): ChatCompletion {
    const message = { role: 'assistant', content: this.#content, refusal: null } as const
    return {
      ...this.#head('chat.completion'),
      choices: [{ index: 0, message, logprobs: null, finish_reason: this.#finishReason }],
      usage: this.#finalUsage(),
    }
  }

  #chunk(delta: Choice['delta'], finish_reason: Choice['finish_reason']): Chunk {
    return {
      ...this.#head('chat.completion.chunk'),
      choices: [{ index: 0, delta, logprobs: null, finish_reason }],
    }
  }

  #head<T extends string>(object: T) {
    const { stream, created, model } = this.#accepted
    return { id: `chatcmpl-${stream}`, object, created, model }
  }

  #finalUsage(): ChatCompletionUsage {
    if (!this.#usage) throw new Error('the stream has not ended')
    return this.#usage
  }
}

/** An `error` event as what it was before it became one. */
export function streamError({ code, message, param }: StreamEvent & { type: 'error' }): AparError {
  return new AparError(code, message, { param: param ?? undefined })
}

function openAiUsage(usage: Usage): ChatCompletionUsage {
  const { prompt_tokens, completion_tokens, total_tokens, cached_prompt_tokens } = usage
  const prompt_tokens_details = { cached_tokens: cached_prompt_tokens }
  return { prompt_tokens, completion_tokens, total_tokens, prompt_tokens_details }
}
