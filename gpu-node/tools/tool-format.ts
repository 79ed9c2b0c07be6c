/** How a parameter of a call is written: `begin`, its name, `middle`, its value on lines of its own, `end`. */
export interface ParameterFormat {
  readonly begin: string
  readonly middle: string
  /** Never in a value that is text; behind a line feed, which a text may lack. */
  readonly end: string
}

/**
 * How a model writes calls of tools. An answer with calls is: text, `open`, calls with `between` between them, `close`. A
 * call is: `begin`, the name, `middle`, the arguments as a JSON object or parameter by parameter, `end`.
 */
export interface ToolFormat {
  readonly open: string
  readonly begin: string
  readonly middle: string
  readonly end: string
  readonly between: string
  readonly close: string
  /** Arguments are written so, and as a JSON object only where their schema is not one of parameters. */
  readonly parameters?: ParameterFormat
  /**
   * Begins `open`, or `begin` where that is empty: text in front of calls never has it. Without it text never has the
   * beginning of a call of one of the request's tools, up to its name.
   */
  readonly trigger?: string
  /** Templates of such models take one call a message, and the results behind it. */
  readonly oneCallPerMessage?: true
  /** Templates of such models take only ids of nine letters and digits. */
  readonly shortIds?: true
}

export type ToolFormatName = 'hermes' | 'qwen3-coder' | 'llama' | 'mistral' | 'mistral-names' | 'generic'

export const TOOL_FORMATS: Readonly<Record<ToolFormatName, ToolFormat>> = {
  /** Hermes 2 Pro, Qwen 2.5 and 3, SmolLM3. */
  hermes: {
    open: '',
    begin: '<tool_call>\n{"name": "',
    middle: '", "arguments": ',
    end: '}\n</tool_call>',
    between: '\n',
    close: '',
    trigger: '<tool_call>',
  },
  /** Qwen3-Coder, Qwen 3.5, Nemotron 3. */
  'qwen3-coder': {
    open: '',
    begin: '<tool_call>\n<function=',
    middle: '>\n',
    end: '</function>\n</tool_call>',
    between: '\n',
    close: '',
    parameters: { begin: '<parameter=', middle: '>\n', end: '</parameter>\n' },
    trigger: '<tool_call>',
  },
  /** Llama 3.1 and later. */
  llama: {
    open: '',
    begin: '{"name": "',
    middle: '", "parameters": ',
    end: '}',
    between: '; ',
    close: '',
    oneCallPerMessage: true,
  },
  /** Mistral models of 2024. */
  mistral: {
    open: '[TOOL_CALLS][',
    begin: '{"name": "',
    middle: '", "arguments": ',
    end: '}',
    between: ', ',
    close: ']',
    trigger: '[TOOL_CALLS]',
    shortIds: true,
  },
  /** Mistral models since 2025, which write the name outside of the JSON. */
  'mistral-names': {
    open: '',
    begin: '[TOOL_CALLS]',
    middle: '[ARGS]',
    end: '',
    between: '',
    close: '',
    trigger: '[TOOL_CALLS]',
    shortIds: true,
  },
  /** For models that were not trained to call tools: a text of the prompt describes it. */
  generic: {
    open: '',
    begin: '{"tool_call": {"name": "',
    middle: '", "arguments": ',
    end: '}}',
    between: '\n',
    close: '',
  },
}

/** Parts of a format that may be one token, which a tokenizer gives no text. */
const MARKERS = ['<tool_call>', '</tool_call>', '[TOOL_CALLS]', '[ARGS]']

/** How the model of a checkpoint calls tools. */
export interface ModelTools {
  readonly format: ToolFormat
  /** Whether the chat template has `tools` and their calls in the format; otherwise they are text of the prompt. */
  readonly inTemplate: boolean
  /** The same in a request without tools, whose messages may have calls. */
  readonly inTemplateWithoutTools: boolean
  /** Ids of the markers that are tokens without text. */
  readonly tokens: Readonly<Record<string, number>>
}

export const UNTRAINED: ModelTools = {
  format: TOOL_FORMATS.generic,
  inTemplate: false,
  inTemplateWithoutTools: false,
  tokens: {},
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

/** `choice`: of the operator; by default the format that the chat template writes. */
export function modelTools({ chatTemplate, tokenizer }: Files, choice?: ToolFormatName): ModelTools {
  const source = chatTemplate?.source ?? ''
  const written = formatIn(chatTemplate?.toolUse ?? source)
  const name = choice ?? written ?? 'generic'
  const format = TOOL_FORMATS[name]
  const hidden = tokenizer.added_tokens.filter(
    ({ content, special }) =>
      special && MARKERS.includes(content) && JSON.stringify(format).includes(content),
  )
  return {
    format,
    inTemplate: name === written,
    inTemplateWithoutTools: name === formatIn(source),
    tokens: Object.fromEntries(hidden.map(({ content, id }) => [content, id])),
  }
}

/** For the operator of a model whose template has calls of tools that are not written as it does. */
export function toolsNote(files: Files, choice?: ToolFormatName): string | undefined {
  const { source = '', toolUse = '' } = files.chatTemplate ?? {}
  const { inTemplate } = modelTools(files, choice)
  if (choice || inTemplate || !/\btool(s|_calls)\b/.test(source + toolUse)) return undefined
  const how =
    'a text in the system message describes tools and how they are called (--tool-format has other forms)'
  return `the chat template writes calls of tools in a form that is not known: ${how}`
}

/** undefined for a template that has no tools, or writes calls in none of the formats. */
function formatIn(source: string): ToolFormatName | undefined {
  if (!/\btools\b/.test(source)) return undefined
  if (source.includes('[TOOL_CALLS]')) return source.includes('[ARGS]') ? 'mistral-names' : 'mistral'
  if (source.includes('<tool_call>')) {
    if (source.includes('<function=') && source.includes('<parameter=')) return 'qwen3-coder'
    // Others of this marker have other XML in it.
    return /<function=|<arg_key>/.test(source) ? undefined : 'hermes'
  }
  // Functionary describes tools as Llama does, and writes their calls in XML.
  const isLlama = source.includes('"parameters": ') && source.includes('ipython')
  return isLlama && !source.includes('<function=') ? 'llama' : undefined
}
