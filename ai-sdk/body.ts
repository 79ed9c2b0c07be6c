import type { LanguageModelV3CallOptions, SharedV3Warning } from '@ai-sdk/provider'

/**
 * `providerOptions.apar`. Other names are sent as they are, as fields of the request: `{ min_tokens: 20 }`. The server
 * refuses those that it does not know.
 */
export type AparModelOptions = {
  /** false: serial decoding, without branches. Default true. */
  enabled?: boolean
  /** Live branches at a time, the root among them: 1 to 256. */
  maxBranches?: number
  /** 1 to 16; 1 means no forks. */
  maxDepth?: number
  /** New tokens of one branch, which then ends with reason `length`. */
  maxBranchTokens?: number
  /** 0 to 1. */
  minP?: number
  /** 1 disables it. */
  repetitionPenalty?: number
  /** What drafts tokens that the model checks several at a time. The text is the same with each of them. */
  speculation?: 'auto' | 'off' | 'medusa' | 'ngram'
  /** Members of an object are decoded at the same time, where its schema allows that. Default false. */
  parallelFormat?: boolean
}

/** Names in the request's object `apar`. */
const FIELDS: Record<keyof AparModelOptions, string> = {
  enabled: 'enabled',
  maxBranches: 'max_branches',
  maxDepth: 'max_depth',
  maxBranchTokens: 'max_branch_tokens',
  minP: 'min_p',
  repetitionPenalty: 'repetition_penalty',
  speculation: 'speculation',
  parallelFormat: 'parallel_format',
}

type Options = LanguageModelV3CallOptions & {
  /** Of the AI SDK's next interface, which version 7 passes to models of this one, too. */
  reasoning?: string
}

/**
 * The options with everything that OpenAI's API has no field for among the provider's options, which become fields of the
 * body as they are.
 */
export function withOwnFields({ topK, ...options }: Options): LanguageModelV3CallOptions {
  const { reasoning } = options
  const own = {
    ...options.providerOptions?.apar,
    ...(topK !== undefined && { top_k: topK }),
    ...(reasoning !== undefined && reasoning !== 'provider-default' && { reasoning }),
  }
  return { ...options, providerOptions: { ...options.providerOptions, apar: own } }
}

/** The request's body: OpenAI's, with the branch of each piece of text where it is streamed. */
export function requestBody(
  body: Record<string, unknown>,
  warnings: SharedV3Warning[] = [],
): Record<string, unknown> {
  const { reasoning, ...fields } = body
  if (reasoning !== undefined)
    warnings.push({ type: 'unsupported', feature: 'reasoning', details: 'the models have one way to answer' })
  const apar: Record<string, unknown> = { ...(fields.apar as object | undefined) }
  for (const [name, field] of Object.entries(FIELDS)) {
    if (fields[name] !== undefined) apar[field] = fields[name]
    delete fields[name]
  }
  // A stop string ends the text in document order, whatever branches it lies in; only the server, which may then stop,
  // knows that order in time. Such an answer streams without branches.
  const stops = fields.stop as string | string[] | undefined
  if (fields.stream === true && !stops?.length) apar.branch_deltas = true
  return Object.keys(apar).length === 0 ? fields : { ...fields, apar }
}
