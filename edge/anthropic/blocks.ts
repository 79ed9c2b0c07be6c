import type { CallPart } from '../streams/http/choice.ts'

export function textBlock(text: string) {
  return { type: 'text' as const, text, citations: null }
}

export function toolUse(id: string, name: string, input: object) {
  return { type: 'tool_use' as const, id: `toolu_${id}`, name, input, caller: { type: 'direct' } }
}

/** The events of an answer's blocks: one of text, and one for each call of a tool. */
export class BlockEvents {
  #index = -1
  #open: 'text' | 'tool_use' | undefined;

  *of(part: string | CallPart): Generator<object, void> {
    if (typeof part === 'string') {
      if (this.#open !== 'text') yield* this.#begin(textBlock(''))
      yield this.#delta({ type: 'text_delta', text: part })
    } else if (part.type === 'tool_call') yield* this.#begin(toolUse(part.call_id, part.name, {}))
    else yield this.#delta({ type: 'input_json_delta', partial_json: part.text })
  }

  /** An answer has at least one block. */
  *end(): Generator<object, void> {
    if (this.#index < 0) yield* this.#begin(textBlock(''))
    yield* this.#close()
  }

  *#begin(content_block: ReturnType<typeof textBlock> | ReturnType<typeof toolUse>): Generator<object, void> {
    yield* this.#close()
    this.#open = content_block.type
    yield { type: 'content_block_start', index: ++this.#index, content_block }
  }

  *#close(): Generator<object, void> {
    if (this.#open) yield { type: 'content_block_stop', index: this.#index }
    this.#open = undefined
  }

  #delta(delta: object): object {
    return { type: 'content_block_delta', index: this.#index, delta }
  }
}
