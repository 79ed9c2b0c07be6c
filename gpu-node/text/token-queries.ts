import { AparError } from '../../shared/errors.ts'
import {
  type GoodTokenAnswer,
  MAX_TOKEN_ANSWER_CHARS,
  type TokenizerInfo,
  type TokenQuery,
} from '../../shared/protocol/token-query.ts'
import type { TokenizerFiles } from '../checkpoint/tokenizer-files.ts'
import { piecesOf } from './pieces.ts'
import type { PromptEncoder } from './prompt-encoder.ts'
import { type TokenBytes, tokenBytes } from './token-bytes.ts'

const SPACE = 0x20

/** Whatever the files were, they became a tokenizer.json (docs/adr/0036), which transformers loads as this class. */
const TOKENIZER_CLASS = 'PreTrainedTokenizerFast'

type Encoder = Pick<PromptEncoder, 'tokenize' | 'promptText' | 'addsLeadingSpace'>
type Tokenize = Extract<TokenQuery, { ask: 'tokenize' }>

/** Answers questions about the tokens of one checkpoint. Its tables are made when they are needed first. */
export class TokenQueries {
  readonly #files: TokenizerFiles
  readonly #encoder: Encoder
  #texts: readonly (string | undefined)[] | undefined
  #bytes: TokenBytes | undefined

  constructor(files: TokenizerFiles, encoder: Encoder) {
    this.#files = files
    this.#encoder = encoder
  }

  /** @throws AparError `invalid_request` with the field at fault. */
  answer(query: TokenQuery): GoodTokenAnswer {
    if (query.ask === 'tokenize') return this.#tokenize(query)
    if (query.ask === 'render') return this.#render(query)
    if (query.ask === 'detokenize') return { type: 'text', text: this.#detokenize(query.tokens) }
    return { type: 'tokenizer', info: this.#info() }
  }

  #tokenize(query: Tokenize): GoodTokenAnswer {
    const tokens = this.#encoder.tokenize(query)
    const count = tokens.length
    if (query.list === 'nothing') return { type: 'tokens', count }
    const texts = this.#tokenTexts()
    const token_strs = query.list === 'ids' ? {} : { token_strs: tokens.map((id) => texts[id] ?? '') }
    return bounded({ type: 'tokens', count, tokens, ...token_strs }, `the list of ${count} tokens`)
  }

  #render({ messages, ...options }: Extract<TokenQuery, { ask: 'render' }>): GoodTokenAnswer {
    const text = this.#encoder.promptText(messages, options)
    return bounded({ type: 'text', text }, 'the text of the prompt')
  }

  /** The text of the tokens, special ones included, without the space that the tokenizer puts before every text. */
  #detokenize(tokens: readonly number[]): string {
    this.#bytes ??= tokenBytes(this.#files)
    const texts = this.#tokenTexts()
    const encoder = new TextEncoder()
    const utf8 = new TextDecoder('utf-8', { ignoreBOM: true })
    let text = ''
    for (const [index, id] of tokens.entries()) {
      const special = texts[id]
      if (special === undefined) {
        const param = `tokens.${index}`
        throw new AparError('invalid_request', `${param}: the model has no token ${id}`, { param })
      }
      const bytes = this.#bytes.of(id) ?? encoder.encode(special)
      const isAdded = index === 0 && this.#encoder.addsLeadingSpace && bytes[0] === SPACE
      text += utf8.decode(isAdded ? bytes.subarray(1) : bytes, { stream: true })
    }
    return text + utf8.decode()
  }

  #info(): TokenizerInfo {
    const { named, chatTemplate, rawPrefix } = this.#files
    const { bos_token = null, eos_token = null, unk_token = null, pad_token = null } = named
    return {
      tokenizer_class: TOKENIZER_CLASS,
      vocab_size: this.#tokenTexts().length,
      add_bos_token: rawPrefix !== '',
      ...{ bos_token, eos_token, unk_token, pad_token },
      chat_template: chatTemplate?.source ?? null,
    }
  }

  /** By id, the tokens as the vocabulary writes them. */
  #tokenTexts(): readonly (string | undefined)[] {
    if (this.#texts) return this.#texts
    const { model, added_tokens } = this.#files.tokenizer
    const texts: (string | undefined)[] = []
    for (const piece of piecesOf(model.vocab)) texts[model.vocab[piece] ?? 0] = piece
    for (const { id, content } of added_tokens) texts[id] = content
    this.#texts = texts
    return texts
  }
}

/** @throws AparError `invalid_request` for an answer that is too long to be sent. */
function bounded(answer: GoodTokenAnswer, what: string): GoodTokenAnswer {
  if (JSON.stringify(answer).length <= MAX_TOKEN_ANSWER_CHARS) return answer
  throw new AparError('invalid_request', `messages: ${what} is too long`, { param: 'messages' })
}
