import type { AnswerPart } from '../streams/http/single-answer.ts'

export function textBlock(text: string) {
  return { type: 'text' as const, text, citations: null }
}

/** Clients send the signature back; nothing checks it. */
export function thinkingBlock(thinking: string, signature: string) {
  return { type: 'thinking' as const, thinking, signature }
}

export function toolUse(id: string, name: string, input: object) {
  return { type: 'tool_use' as const, id: `toolu_${id}`, name, input, caller: { type: 'direct' } }
}

type Block = ReturnType<typeof textBlock> | ReturnType<typeof thinkingBlock> | ReturnType<typeof toolUse>

/** The events of an answer's blocks: of thinking, of text, and one for each call of a tool. */
export class BlockEvents {
  readonly #signature: string
  readonly #showsThinking: boolean
  #index = -1
  #open: 'thinking' | 'text' | 'tool_use' | undefined

  /** `signature`: of thinking; without `showsThinking`, its blocks are empty. */
  constructor(signature: string, showsThinking: boolean) {
    this.#signature = signature
    this.#showsThinking = showsThinking
  }

  *of(part: AnswerPart): Generator<object, void> {
    if (typeof part === 'string') {
      if (this.#open !== 'text') yield* this.#begin(textBlock(''))
      yield this.#delta({ type: 'text_delta', text: part })
    } else if (part.type === 'reasoning') {
      if (this.#open !== 'thinking') yield* this.#begin(thinkingBlock('', ''))
      if (this.#showsThinking) yield this.#delta({ type: 'thinking_delta', thinking: part.text })
    } else if (part.type === 'tool_call') yield* this.#begin(toolUse(part.call_id, part.name, {}))
    else yield this.#delta({ type: 'input_json_delta', partial_json: part.text })
  }

  /** An answer has at least one block. */
  *end(): Generator<object, void> {
    if (this.#index < 0) yield* this.#begin(textBlock(''))
    yield* this.#close()
  }

  *#begin(content_block: Block): Generator<object, void> {
    yield* this.#close()
    this.#open = content_block.type
    yield { type: 'content_block_start', index: ++this.#index, content_block }
  }

  *#close(): Generator<object, void> {
    if (this.#open === 'thinking') yield this.#delta({ type: 'signature_delta', signature: this.#signature })
    if (this.#open) yield { type: 'content_block_stop', index: this.#index }
    this.#open = undefined
  }

  #delta(delta: object): object {
    return { type: 'content_block_delta', index: this.#index, delta }
  }
}
