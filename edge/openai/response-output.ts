import type { Call } from '../streams/http/choice.ts'
import type { AnswerPart } from '../streams/http/single-answer.ts'
import type { AnswerSoFar } from './answer-so-far.ts'
import { callId } from './call-id.ts'
import type { ItemEvent, ItemStatus } from './item-event.ts'
import { ReasoningItem } from './reasoning-item.ts'

/** The items of an answer as far as it has come: its reasoning and its text, if it has some, and its calls. */
export function outputOf(answer: AnswerSoFar, status: ItemStatus, withSummary: boolean): object[] {
  const { calls, text, reasoning } = answer
  const isThinking = text === '' && calls.length === 0
  const thoughts =
    reasoning === '' ? [] : [new ReasoningItem(answer, withSummary).item(isThinking ? status : 'completed')]
  // Only the last call can be incomplete.
  const items = calls.map((call, index) => callItem(call, index < calls.length - 1 ? 'completed' : status))
  const textStatus = calls.length > 0 ? 'completed' : status
  const texts = text === '' && thoughts.length + items.length > 0 ? [] : [message(answer, textStatus)]
  return [...thoughts, ...texts, ...items]
}

function message(answer: AnswerSoFar, status: ItemStatus): object {
  return {
    type: 'message',
    id: messageId(answer),
    status,
    role: 'assistant',
    content: status === 'in_progress' ? [] : [textPart(answer.text)],
  }
}

function callItem({ id, name, arguments: args }: Call, status: ItemStatus): object {
  return { type: 'function_call', id: itemId(id), call_id: callId(id), name, arguments: args, status }
}

function itemId(id: string): string {
  return `fc_${id}`
}

function messageId({ accepted }: AnswerSoFar): string {
  return `msg_${accepted.stream}`
}

function textPart(text: string): object {
  return { type: 'output_text', text, annotations: [], logprobs: [] }
}

/** The events of the items of an answer, one item after the other. */
export class ItemEvents {
  readonly #answer: AnswerSoFar
  readonly #reasoning: ReasoningItem
  #index = -1
  #open: 'reasoning' | 'message' | Call | undefined

  /** `withSummary`: reasoning is the summary of its item. */
  constructor(answer: AnswerSoFar, withSummary: boolean) {
    this.#answer = answer
    this.#reasoning = new ReasoningItem(answer, withSummary)
  }

  *of(part: AnswerPart): Generator<ItemEvent, void> {
    if (typeof part === 'string') {
      if (this.#open !== 'message') yield* this.#beginMessage()
      yield ['response.output_text.delta', { ...this.#content, delta: part, logprobs: [] }]
    } else if (part.type === 'reasoning') {
      if (this.#open !== 'reasoning') {
        this.#index++
        this.#open = 'reasoning'
        yield* this.#reasoning.begin(this.#place)
      }
      yield this.#reasoning.delta(this.#place, part.text)
    } else if (part.type === 'tool_call') {
      yield* this.#close('completed')
      this.#index++
      const call = this.#answer.calls[part.call]
      this.#open = call
      const item = call && callItem({ ...call, arguments: '' }, 'in_progress')
      yield ['response.output_item.added', { ...this.#place, item }]
    } else {
      const { text: delta } = part
      yield ['response.function_call_arguments.delta', { ...this.#place, item_id: this.#itemId, delta }]
    }
  }

  /** An answer has at least one item. */
  *end(status: ItemStatus): Generator<ItemEvent, void> {
    if (this.#index < 0) yield* this.#beginMessage()
    yield* this.#close(status)
  }

  *#beginMessage(): Generator<ItemEvent, void> {
    yield* this.#close('completed')
    this.#index++
    this.#open = 'message'
    yield ['response.output_item.added', { ...this.#place, item: message(this.#answer, 'in_progress') }]
    yield ['response.content_part.added', { ...this.#content, part: textPart('') }]
  }

  *#close(status: ItemStatus): Generator<ItemEvent, void> {
    const open = this.#open
    this.#open = undefined
    if (open === 'reasoning') yield* this.#reasoning.end(this.#place, status)
    else if (open === 'message') {
      const { text } = this.#answer
      yield ['response.output_text.done', { ...this.#content, text, logprobs: [] }]
      yield ['response.content_part.done', { ...this.#content, part: textPart(text) }]
      yield ['response.output_item.done', { ...this.#place, item: message(this.#answer, status) }]
    } else if (open) {
      const { id, name, arguments: args } = open
      const fields = { ...this.#place, item_id: itemId(id), name, arguments: args }
      yield ['response.function_call_arguments.done', fields]
      yield ['response.output_item.done', { ...this.#place, item: callItem(open, status) }]
    }
  }

  get #place() {
    return { output_index: this.#index }
  }

  get #content() {
    return { item_id: messageId(this.#answer), ...this.#place, content_index: 0 }
  }

  get #itemId(): string {
    return typeof this.#open === 'object' ? itemId(this.#open.id) : ''
  }
}
