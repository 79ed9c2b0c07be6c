/** How a model marks what it thinks before it answers. */
export interface ReasoningFormat {
  readonly open: string
  readonly close: string
}

export type ReasoningFormatName = 'think' | 'mistral' | 'seed'

export const REASONING_FORMATS: Readonly<Record<ReasoningFormatName, ReasoningFormat>> = {
  /** Qwen 3, DeepSeek-R1 and what was distilled from it, SmolLM3. */
  think: { open: '<think>', close: '</think>' },
  /** Magistral, and Mistral models since. */
  mistral: { open: '[THINK]', close: '[/THINK]' },
  /** Seed-OSS. */
  seed: { open: '<seed:think>', close: '</seed:think>' },
}

/** `none`: what looks like a marker is text. */
export type ReasoningChoice = ReasoningFormatName | 'none'
export const REASONING_CHOICES: readonly string[] = [...Object.keys(REASONING_FORMATS), 'none']

/** How the model of a checkpoint marks its reasoning. */
export interface ModelReasoning {
  readonly format: ReasoningFormat
  /** Ids of the markers that are tokens without text. */
  readonly tokens: Readonly<Record<string, number>>
}

interface Files {
  readonly chatTemplate: { readonly source: string; readonly toolUse?: string } | undefined
  readonly tokenizer: {
    readonly added_tokens: readonly {
      readonly id: number
      readonly content: string
      readonly special: boolean
    }[]
  }
}

/**
 * `choice`: of the operator; by default the format whose markers the chat template has, or whose markers are tokens.
 * undefined for a model that does not mark any.
 */
export function modelReasoning(
  { chatTemplate, tokenizer }: Files,
  choice?: ReasoningChoice,
): ModelReasoning | undefined {
  if (choice === 'none') return undefined
  const { source = '', toolUse = '' } = chatTemplate ?? {}
  const tokens = tokenizer.added_tokens
  const isToken = (marker: string) => tokens.some(({ content }) => content === marker)
  const all = Object.values(REASONING_FORMATS)
  const format = choice
    ? REASONING_FORMATS[choice]
    : (all.find(({ close }) => source.includes(close) || toolUse.includes(close)) ??
      all.find(({ open, close }) => isToken(open) && isToken(close)))
  if (!format) return undefined
  const hidden = tokens.filter(
    ({ content, special }) => special && (content === format.open || content === format.close),
  )
  return { format, tokens: Object.fromEntries(hidden.map(({ content, id }) => [content, id])) }
}
