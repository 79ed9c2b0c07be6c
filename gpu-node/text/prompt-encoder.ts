import { randomUUID } from 'node:crypto'
import type { Tokenizer } from '@huggingface/tokenizers'
import { AparError } from '../../shared/errors.ts'
import type { ChatMessage } from '../../shared/protocol/request.ts'
import type { TokenQuery } from '../../shared/protocol/token-query.ts'
import type { Tool } from '../../shared/protocol/tools.ts'
import type { ChatTemplate } from '../checkpoint/tokenizer/chat-template.ts'
import type { TokenizerFiles } from '../checkpoint/tokenizer-files.ts'
import { StartupError } from '../startup-error.ts'
import { type ModelTools, modelTools } from '../tools/tool-format.ts'
import { type TemplateMessage, templateInputs } from '../tools/tool-prompt.ts'
import type { ControlText } from './control-text.ts'
import { controlText } from './control-tokens.ts'
import { openTokenizer, withNames } from './guarded-tokenizer.ts'
import type { Piece } from './piece.ts'
import { piecesOf } from './pieces.ts'
import { promptTooLong } from './prompt-length.ts'
import type { Prompt } from './prompt-process.ts'
import { ProvenanceTemplate } from './provenance-template.ts'
import { bytesOfToken } from './token-bytes.ts'

type TemplateVariables = Readonly<Record<string, unknown>>
type PromptOptions = Omit<Prompt, 'messages' | 'raw_prompt'>

/** The chats that a template is tried with. One that asks for a system message renders some of them. */
const SAMPLES: readonly (readonly TemplateMessage[])[] = [
  [{ role: 'user', content: 'x' }],
  [
    { role: 'system', content: 'x' },
    { role: 'user', content: 'x' },
  ],
  [
    { role: 'user', content: 'x' },
    { role: 'assistant', content: 'x' },
    { role: 'user', content: 'x' },
  ],
  [
    { role: 'system', content: 'x' },
    { role: 'user', content: 'x' },
    { role: 'assistant', content: 'x' },
    { role: 'user', content: 'x' },
  ],
]

/** Converts chat messages to token ids with the checkpoint's template and tokenizer. */
export class PromptEncoder {
  /** True when the tokenizer adds a space before an answer's text. */
  readonly dropsLeadingSpace: boolean
  readonly #files: TokenizerFiles
  readonly #template: ProvenanceTemplate | undefined
  /** Of requests with tools, where it is another one. */
  readonly #toolTemplate: ProvenanceTemplate | undefined
  /** Variables of the template in a request without tools. */
  readonly #withoutTools: TemplateVariables
  readonly #tools: ModelTools
  readonly #tokenizer: Pick<Tokenizer, 'encode'>
  readonly #control: ControlText
  readonly #named: TokenizerFiles['named']
  /** Of the BOS token, when the tokenizer adds it. */
  readonly #prefix: readonly number[]
  /** Whether the template leaves that token to the tokenizer. */
  readonly #templateNeedsPrefix: boolean
  readonly #longestPiece: number

  /**
   * `controlIds`: tokens that only the template may produce, in addition to those that the files show.
   * `vocabSize`: rows of the embedding. `open`: for a tokenizer that is the same, but faster.
   * @throws StartupError that names the file.
   */
  constructor(
    files: TokenizerFiles,
    controlIds: readonly number[] = [],
    vocabSize = Number.POSITIVE_INFINITY,
    open: (...file: Parameters<typeof openTokenizer>) => Pick<Tokenizer, 'encode'> = openTokenizer,
  ) {
    const { chatTemplate, named, tokenizer } = files
    this.#files = files
    this.#named = named
    this.#tools = modelTools(files, files.toolFormat)
    this.#template = chatTemplate && parseTemplate(chatTemplate)
    const tried = chatTemplate && this.#template && tryTemplate(this.#template, chatTemplate, named)
    const { samples, withoutTools } = tried ?? { samples: [], withoutTools: {} }
    this.#withoutTools = withoutTools
    const { toolUse } = chatTemplate ?? {}
    this.#toolTemplate =
      chatTemplate && toolUse !== undefined ? parseTemplate({ ...chatTemplate, source: toolUse }) : undefined
    const literals = [this.#template, this.#toolTemplate].flatMap((template) => template?.literals ?? [])
    this.#control = controlText({ files, ids: controlIds, vocabSize, literals, samples })
    this.#tokenizer = open(withNames(tokenizer, this.#control), files.file)
    this.#prefix = this.ids([{ text: files.rawPrefix, ofTemplate: true }])
    this.#templateNeedsPrefix = chatTemplate?.afterRawPrefix ?? false
    this.#longestPiece = longestPiece(files)
    const first = this.#firstTokenAfter(samples[0] ?? [raw('x')])
    this.dropsLeadingSpace = first !== undefined && bytesOfToken(files, first)?.[0] === 0x20
  }

  encodePrompt({ messages, raw_prompt, ...options }: Prompt, maxTokens: number): Int32Array {
    const ids = raw_prompt
      ? this.encodeRaw(messages.map(({ content }) => content).join(''), maxTokens)
      : this.encode(messages, maxTokens, options)
    if (ids.length > 0) return ids
    throw new AparError('invalid_request', 'messages: the prompt is empty', { param: 'messages' })
  }

  /**
   * @param maxTokens a longer prompt is refused, if possible before it is encoded.
   * @throws AparError `context_length_exceeded`, or `invalid_request` when the template refuses the messages.
   */
  encode(messages: readonly ChatMessage[], maxTokens: number, options: PromptOptions = {}): Int32Array {
    const prefix = this.#templateNeedsPrefix ? this.#prefix : []
    return this.#encodeBounded(prefix, this.#renderPrompt(messages, options), maxTokens, 'messages')
  }

  /**
   * The text of a chat's prompt, without a first token that the template leaves to the tokenizer.
   * @throws AparError `invalid_request` when the template refuses the messages.
   */
  promptText(messages: readonly ChatMessage[], options: PromptOptions): string {
    return this.#renderPrompt(messages, options)
      .map(({ text }) => text)
      .join('')
  }

  #renderPrompt(
    messages: readonly ChatMessage[],
    { tools, add_generation_prompt, continue_final_message, chat_template_kwargs }: PromptOptions,
  ): Piece[] {
    return continue_final_message
      ? this.#renderBeginning(messages, chat_template_kwargs, tools)
      : this.render(messages, add_generation_prompt, chat_template_kwargs, tools)
  }

  /** Encodes a text without the chat template, after the checkpoint's BOS token if there is one. */
  encodeRaw(text: string, maxTokens: number): Int32Array {
    return this.#encodeBounded(this.#prefix, [raw(text.toWellFormed())], maxTokens, 'prompt')
  }

  /** `prefix` is no part of the text: some tokenizers add a space to the start of a text, but not after a token in it. */
  #encodeBounded(
    prefix: readonly number[],
    pieces: readonly Piece[],
    maxTokens: number,
    what: 'messages' | 'prompt',
  ): Int32Array {
    const characters = pieces.reduce((sum, { text }) => sum + text.length, 0)
    const fewest = Math.ceil(characters / this.#longestPiece)
    if (fewest > maxTokens) throw promptTooLong(maxTokens, what, { tokens: fewest, atLeast: true })
    const ids = [...prefix, ...this.ids(pieces)]
    if (ids.length > maxTokens) throw promptTooLong(maxTokens, what, { tokens: ids.length })
    return Int32Array.from(ids)
  }

  /**
   * As {@link encodePrompt} with the options of a query, however long.
   * @throws AparError `invalid_request` when the template refuses the messages.
   */
  tokenize(query: Omit<Extract<TokenQuery, { ask: 'tokenize' }>, 'model' | 'list' | 'ask'>): number[] {
    const { messages, raw_prompt, add_special_tokens, parse_special } = query
    if (!raw_prompt) return [...this.encode(messages, Number.MAX_SAFE_INTEGER, query)]
    const text = messages
      .map(({ content }) => content)
      .join('')
      .toWellFormed()
    return [...(add_special_tokens ? this.#prefix : []), ...this.ids([{ text, ofTemplate: parse_special }])]
  }

  /** Whether the tokenizer puts a space before a text. */
  get addsLeadingSpace(): boolean {
    const [first] = this.ids([raw('x')])
    return first !== undefined && bytesOfToken(this.#files, first)?.[0] === 0x20
  }

  /**
   * What the template makes of messages; `generationPrompt`: with the beginning of the next answer.
   * @throws AparError `invalid_request` when it refuses them.
   */
  render(
    messages: readonly ChatMessage[],
    generationPrompt = true,
    variables: TemplateVariables = {},
    tools?: readonly Tool[],
  ): Piece[] {
    if (!this.#template) {
      const why = 'the model has no chat template: it completes plain prompts only'
      throw new AparError('invalid_request', `messages: ${why}`, { param: 'messages' })
    }
    const wellFormed = messages.map(({ content, reasoning_content, ...message }) => ({
      ...message,
      content: content.toWellFormed(),
      reasoning_content: reasoning_content?.toWellFormed(),
    }))
    let failure: unknown
    for (const { messages: input, tools: definitions } of templateInputs(wellFormed, tools, this.#tools)) {
      const all = { ...this.#withoutTools, ...variables, ...(definitions && { tools: definitions }) }
      const template = (definitions && this.#toolTemplate) ?? this.#template
      try {
        return template.render(this.#named, input, { generationPrompt, variables: all })
      } catch (cause) {
        failure ??= cause
      }
    }
    throw new AparError('invalid_request', `messages: ${reasonOf(failure)}`, {
      param: 'messages',
      cause: failure,
    })
  }

  /** What the template makes of messages, up to the end of the last one's content. */
  #renderBeginning(
    messages: readonly ChatMessage[],
    variables: TemplateVariables = {},
    tools?: readonly Tool[],
  ): Piece[] {
    const last = messages.at(-1)
    if (!last) return this.render(messages, false, variables, tools)
    // The end of the content, wherever the template puts it, and also where it strips white space.
    const mark = `\u{F0004}${randomUUID()}`
    const marked = [...messages.slice(0, -1), { ...last, content: last.content + mark }]
    const pieces = this.render(marked, false, variables, tools)
    const at = pieces.findLastIndex(({ text }) => text.includes(mark))
    const piece = pieces[at]
    if (!piece) {
      const message = 'messages: the template does not write the last message, so it cannot be continued'
      throw new AparError('invalid_request', message, { param: 'messages' })
    }
    return [...pieces.slice(0, at), { ...piece, text: piece.text.slice(0, piece.text.lastIndexOf(mark)) }]
  }

  /** Token ids of text; only that of the template may become control tokens. */
  ids(pieces: readonly Piece[]): number[] {
    // The template already contains the special tokens.
    return this.#tokenizer.encode(this.#control.named(pieces), { add_special_tokens: false }).ids
  }

  /** Encodes a prompt with an answer, as in training; undefined when the answer changes the prompt's tokens. */
  #firstTokenAfter(prompt: readonly Piece[]): number | undefined {
    const before = this.ids(prompt)
    const after = this.ids([...prompt, raw('x')])
    const samePrompt = before.every((id, index) => after[index] === id)
    return samePrompt ? after[before.length] : undefined
  }
}

/** Parses the template and renders short chats. `onCheck` hears what is run next. @throws StartupError. */
export function checkTemplate(
  { chatTemplate, named }: TokenizerFiles,
  onCheck: (what: string) => void,
): void {
  if (!chatTemplate) return
  onCheck(`${chatTemplate.file}: chat_template: a short chat`)
  tryTemplate(parseTemplate(chatTemplate), chatTemplate, named)
}

function parseTemplate({ source, file }: ChatTemplate): ProvenanceTemplate {
  try {
    return new ProvenanceTemplate(source)
  } catch (cause) {
    throw new StartupError('broken_checkpoint', `${file}: chat_template: ${reasonOf(cause)}`, cause)
  }
}

/**
 * Renders the samples. No tools are null, as in transformers, unless the template renders more samples with an empty list:
 * some loop over `tools` in every chat. @throws StartupError when it renders none.
 */
function tryTemplate(
  template: ProvenanceTemplate,
  { file }: ChatTemplate,
  named: TokenizerFiles['named'],
): { samples: readonly Piece[][]; withoutTools: TemplateVariables } {
  const asNull = renderSamples(template, named, {})
  const asList = asNull.failure === undefined ? asNull : renderSamples(template, named, { tools: [] })
  const tried = asList.samples.length > asNull.samples.length ? asList : asNull
  if (tried.samples.length > 0) return tried
  // The reason that has nothing to do with tools.
  const { failure } = asList
  const why = `chat_template: refuses every chat: ${reasonOf(failure)}`
  throw new StartupError('broken_checkpoint', `${file}: ${why}`, failure)
}

function renderSamples(
  template: ProvenanceTemplate,
  named: TokenizerFiles['named'],
  withoutTools: TemplateVariables,
): { samples: Piece[][]; withoutTools: TemplateVariables; failure: unknown } {
  let failure: unknown
  const samples = SAMPLES.flatMap((messages) => {
    try {
      return [template.render(named, messages, { variables: withoutTools })]
    } catch (cause) {
      failure ??= cause
      return []
    }
  })
  return { samples, withoutTools, failure }
}

function raw(text: string): Piece {
  return { text, ofTemplate: false }
}

/** UTF-16 code units that a token stands for, at most: a piece has one for each of its text, or for each byte of it. */
function longestPiece({ tokenizer }: TokenizerFiles): number {
  let longest = tokenizer.added_tokens.reduce((most, { content }) => Math.max(most, content.length), 1)
  for (const piece of piecesOf(tokenizer.model.vocab)) longest = Math.max(longest, piece.length)
  return longest
}

function reasonOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause)
}
