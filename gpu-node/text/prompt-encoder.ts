import { Template } from '@huggingface/jinja'
import { Tokenizer } from '@huggingface/tokenizers'
import { AparError } from '../../shared/errors.ts'
import type { ChatMessage } from '../../shared/protocol/request.ts'
import type { TokenizerFile, TokenizerFiles } from '../checkpoint/tokenizer-files.ts'
import { StartupError } from '../startup-error.ts'
import { ControlText } from './control-text.ts'
import { type TokenBytes, tokenBytes } from './token-bytes.ts'

/** Converts chat messages to token ids with the checkpoint's template and tokenizer. */
export class PromptEncoder {
  readonly bytes: TokenBytes
  /** True when the tokenizer adds a space before an answer's text. */
  readonly dropsLeadingSpace: boolean
  readonly #template: Template
  readonly #tokenizer: Tokenizer
  readonly #control: ControlText
  readonly #named: TokenizerFiles['named']
  readonly #rawPrefix: string
  readonly #longestPieceBytes: number

  /** `controlIds`: tokens that only the template may produce, in addition to those marked special in the file. */
  constructor(files: TokenizerFiles, controlIds: readonly number[] = []) {
    const isControl = (id: number, special: boolean) => special || controlIds.includes(id)
    const control = files.tokenizer.added_tokens.filter(({ id, special }) => isControl(id, special))
    this.#control = new ControlText(control.map(({ content }) => content))
    this.#tokenizer = openTokenizer(
      withNames(files.tokenizer, this.#control, new Set(control.map(({ id }) => id))),
    )
    this.#template = parseTemplate(files.chatTemplate)
    this.#named = files.named
    this.#rawPrefix = files.rawPrefix
    this.bytes = tokenBytes(files.tokenizer)
    const added = files.tokenizer.added_tokens.map(({ content }) => content.length)
    this.#longestPieceBytes = Math.max(...added, ...lengths(this.bytes))
    this.dropsLeadingSpace = this.#addsSpaceToAnswers()
  }

  /**
   * @param maxTokens a longer prompt is refused, if possible before it is encoded.
   * @throws AparError `context_length_exceeded`, or `invalid_request` when the template refuses the messages.
   */
  encode(messages: readonly ChatMessage[], maxTokens: number): Int32Array {
    return this.#encodeBounded(this.#render(messages), maxTokens)
  }

  /** Encodes a text without the chat template, after the checkpoint's BOS token if there is one. */
  encodeRaw(text: string, maxTokens: number): Int32Array {
    return this.#encodeBounded(this.#rawPrefix + this.#control.guard(text.toWellFormed()), maxTokens)
  }

  #encodeBounded(text: string, maxTokens: number): Int32Array {
    if (text.length > maxTokens * this.#longestPieceBytes) throw tooLong(maxTokens)
    const ids = this.#encodeRendered(text)
    if (ids.length > maxTokens) throw tooLong(maxTokens, ids.length)
    return Int32Array.from(ids)
  }

  #render(messages: readonly ChatMessage[]): string {
    const guarded = messages.map(({ role, content }) => ({
      role,
      content: this.#control.guard(content.toWellFormed()),
    }))
    try {
      return this.#template.render({ ...this.#named, messages: guarded, add_generation_prompt: true })
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : 'the chat template failed'
      throw new AparError('invalid_request', `messages: ${reason}`, { param: 'messages', cause })
    }
  }

  #encodeRendered(rendered: string): number[] {
    // The template already contains the special tokens.
    return this.#tokenizer.encode(this.#control.resolve(rendered), { add_special_tokens: false }).ids
  }

  /**
   * Encodes a prompt with an answer, as in training, and checks whether the answer's first token starts with a
   * space.
   */
  #addsSpaceToAnswers(): boolean {
    const prompt = this.#render([{ role: 'user', content: 'x' }])
    const before = this.#encodeRendered(prompt)
    const after = this.#encodeRendered(`${prompt}x`)
    const first = after[before.length]
    const samePrompt = before.every((id, index) => after[index] === id)
    return samePrompt && first !== undefined && this.bytes[first]?.[0] === 0x20
  }
}

function openTokenizer(file: TokenizerFile): Tokenizer {
  try {
    return new Tokenizer(file, { clean_up_tokenization_spaces: false })
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new StartupError('unsupported_checkpoint', `tokenizer.json: ${reason}`, cause)
  }
}

function withNames(file: TokenizerFile, control: ControlText, ids: ReadonlySet<number>): TokenizerFile {
  const added = file.added_tokens.map((token) =>
    // The names must match exactly, without normalisation.
    ids.has(token.id) ? { ...token, content: control.nameOf(token.content), normalized: false } : token,
  )
  return { ...file, added_tokens: added }
}

function parseTemplate(source: string): Template {
  try {
    return new Template(source)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new StartupError('broken_checkpoint', `chat_template: ${reason}`, cause)
  }
}

function lengths(bytes: TokenBytes): number[] {
  return [bytes.reduce((longest, piece) => Math.max(longest, piece?.length ?? 0), 1)]
}

function tooLong(maxTokens: number, tokens?: number): AparError {
  const length = tokens === undefined ? 'far more' : String(tokens)
  const message = `messages: the prompt may have at most ${maxTokens} tokens, it has ${length}`
  return new AparError('context_length_exceeded', message, { param: 'messages' })
}
