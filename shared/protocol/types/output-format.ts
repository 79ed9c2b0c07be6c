/** What an answer must match, token by token. It does not fork. */
export type OutputFormat =
  /** A JSON Schema of which every keyword can be served. */
  | { type: 'json_schema'; schema: Record<string, unknown> }
  /** The whole answer matches it. */
  | { type: 'regex'; pattern: string }
  /** One of the texts. */
  | { type: 'choice'; choices: string[] }
  /** EBNF with the rule `root`, as llama.cpp and xgrammar read it. */
  | { type: 'grammar'; grammar: string }
