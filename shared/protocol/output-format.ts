import { z } from 'zod'
import { problemOf } from './answer-schema.ts'
import type * as types from './types/output-format.ts'

/** Characters of a pattern, a grammar, and of all choices together. */
export const MAX_GRAMMAR_CHARS = 32 * 1024

/** A JSON Schema of which every keyword can be served. */
export const AnswerSchema = z.record(z.string(), z.unknown()).superRefine((schema, context) => {
  const problem = problemOf(schema)
  if (problem)
    context.addIssue({ code: 'custom', path: problem.path, message: problem.message, input: schema })
})

export const AnswerPattern = z.string().min(1).max(MAX_GRAMMAR_CHARS)
export const AnswerChoices = z
  .array(z.string().min(1))
  .min(1)
  .max(1024)
  .refine((choices) => choices.join('').length <= MAX_GRAMMAR_CHARS, 'are too long')
export const AnswerGrammar = z.string().min(1).max(MAX_GRAMMAR_CHARS)

/** What an answer must match, token by token. It does not fork. */
export const OutputFormat = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('json_schema'), schema: AnswerSchema }),
  /** The whole answer matches it. */
  z.strictObject({ type: z.literal('regex'), pattern: AnswerPattern }),
  /** One of the texts. */
  z.strictObject({ type: z.literal('choice'), choices: AnswerChoices }),
  /** EBNF with the rule `root`, as llama.cpp and xgrammar read it. */
  z.strictObject({ type: z.literal('grammar'), grammar: AnswerGrammar }),
])
export type OutputFormat = types.OutputFormat
