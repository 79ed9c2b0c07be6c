import type { PromptEvent, TokenLogprob } from '../../shared/protocol/events.ts'
import type { PlacedLogprob } from '../streams/http/choice.ts'

/** A token of a choice's text, prompt included. The first token of a prompt has no log-probability. */
export interface PlacedRow extends Pick<TokenLogprob, 'token' | 'top'> {
  readonly logprob: number | null
  /** Of the token's text, in UTF-16 code units. */
  readonly offset: number
}

/** The prompt that a choice's text begins with, if the call asks for that. */
export class EchoedPrompt {
  /** Of a prompt in token ids: as far as it has come. */
  text: string
  readonly #isText: boolean
  readonly #decoder = new TextDecoder('utf-8', { fatal: false, ignoreBOM: true })
  #length = 0

  /** `prompt`: undefined when it is not echoed. */
  constructor(prompt: string | number[] | undefined) {
    this.#isText = typeof prompt !== 'object'
    this.text = typeof prompt === 'string' ? prompt : ''
  }

  /** Whether its text comes with its tokens. */
  waits(logprobs: boolean): boolean {
    return logprobs || !this.#isText
  }

  /** `shown`: the part of the prompt's text that the token adds. */
  push({ tokens }: PromptEvent): (PlacedRow & { readonly shown: string })[] {
    return tokens.map(({ token, bytes, logprob, top }) => {
      const text = bytes ? this.#decoder.decode(Uint8Array.from(bytes), { stream: true }) : ''
      // A tokenizer may have put a space before a text.
      const isAdded = this.#isText && this.#length === 0 && text.startsWith(' ') && !this.text.startsWith(' ')
      const shown = isAdded ? text.slice(1) : text
      const offset = this.#length
      this.#length += shown.length
      if (!this.#isText) this.text += shown
      return { token, logprob, top, offset, shown }
    })
  }

  /** Places of tokens in the text that follows. */
  shifted(rows: readonly PlacedLogprob[]): readonly PlacedRow[] {
    const { length } = this.text
    return length === 0 ? rows : rows.map((row) => ({ ...row, offset: row.offset + length }))
  }
}
