import type { AnswerSoFar } from './answer-so-far.ts'
import type { ItemEvent, ItemStatus } from './item-event.ts'

/**
 * The item of an answer with its reasoning: all of it, as `content`, or for a client that asks for a summary, which is what
 * most of them show, as `summary`.
 */
export class ReasoningItem {
  readonly #answer: AnswerSoFar
  readonly #isSummary: boolean

  constructor(answer: AnswerSoFar, isSummary: boolean) {
    this.#answer = answer
    this.#isSummary = isSummary
  }

  /** `status`: `in_progress` for one without its text. */
  item(status: ItemStatus): object {
    const parts = status === 'in_progress' ? [] : [this.#part(this.#answer.reasoning)]
    const texts = this.#isSummary ? { summary: parts } : { summary: [], content: parts }
    return { type: 'reasoning', id: this.#id, ...texts, encrypted_content: null, status }
  }

  *begin(place: { output_index: number }): Generator<ItemEvent, void> {
    yield ['response.output_item.added', { ...place, item: this.item('in_progress') }]
    yield [`response.${this.#partName}.added`, { ...this.#place(place), part: this.#part('') }]
  }

  delta(place: { output_index: number }, delta: string): ItemEvent {
    return [`response.${this.#textName}.delta`, { ...this.#place(place), delta }]
  }

  *end(place: { output_index: number }, status: ItemStatus): Generator<ItemEvent, void> {
    const { reasoning: text } = this.#answer
    yield [`response.${this.#textName}.done`, { ...this.#place(place), text }]
    yield [`response.${this.#partName}.done`, { ...this.#place(place), part: this.#part(text) }]
    yield ['response.output_item.done', { ...place, item: this.item(status) }]
  }

  #part(text: string): object {
    return { type: this.#isSummary ? 'summary_text' : 'reasoning_text', text }
  }

  get #partName(): string {
    return this.#isSummary ? 'reasoning_summary_part' : 'content_part'
  }

  get #textName(): string {
    return this.#isSummary ? 'reasoning_summary_text' : 'reasoning_text'
  }

  #place(place: { output_index: number }): object {
    return { item_id: this.#id, ...place, ...(this.#isSummary ? { summary_index: 0 } : { content_index: 0 }) }
  }

  get #id(): string {
    return `rs_${this.#answer.accepted.stream}`
  }
}
