import { z } from 'zod'
import { AparError } from '../errors.ts'
import {
  AnswerChoices,
  AnswerGrammar,
  AnswerPattern,
  AnswerSchema,
  type OutputFormat,
} from '../protocol/output-format.ts'
import { ignored, unsupported } from './fields.ts'

const ANY_OBJECT = { type: 'object', additionalProperties: true }

/** A schema, or its JSON text. */
const SchemaOrText = z.union(
  [
    AnswerSchema,
    z
      .string()
      .transform((text, context): unknown => {
        try {
          return JSON.parse(text)
        } catch {
          context.addIssue('is not the JSON of a schema')
          return z.NEVER
        }
      })
      .pipe(AnswerSchema),
  ],
  'must be a JSON Schema',
)

const Text = z.strictObject({ type: z.literal('text') })
const JsonObject = z.strictObject({ type: z.literal('json_object') })
/** With a schema as llama.cpp, Together and Fireworks have it. */
const JsonObjectOf = JsonObject.extend({ schema: AnswerSchema.optional() })
const Named = {
  type: z.literal('json_schema'),
  name: z.string().max(256).optional(),
  description: ignored,
  /** The schema always holds. */
  strict: ignored,
}
const NO_FORMAT = 'must have the type text, json_object or json_schema'

/** `response_format` of chat and text completions. */
export const ResponseFormat = z.discriminatedUnion(
  'type',
  [
    Text,
    JsonObjectOf,
    z.strictObject({
      type: Named.type,
      json_schema: z.strictObject({
        ...{ name: Named.name, description: ignored, strict: ignored },
        schema: AnswerSchema.optional(),
      }),
    }),
  ],
  NO_FORMAT,
)

/** `text.format` of responses. */
export const TextFormat = z.discriminatedUnion(
  'type',
  [Text, JsonObject, z.strictObject({ ...Named, schema: AnswerSchema })],
  NO_FORMAT,
)

/** `output_config.format` of messages, and the older `output_format`. */
export const MessageFormat = z.strictObject({
  type: z.literal('json_schema', 'must be json_schema'),
  schema: AnswerSchema,
})

/** As the clients of vLLM, SGLang and llama.cpp write it. An empty grammar is none. */
export const FormatFields = {
  guided_json: SchemaOrText.optional(),
  guided_regex: AnswerPattern.optional(),
  guided_choice: AnswerChoices.optional(),
  guided_grammar: AnswerGrammar.optional(),
  structured_outputs: z
    .strictObject({
      json: SchemaOrText.optional(),
      regex: AnswerPattern.optional(),
      choice: AnswerChoices.optional(),
      grammar: AnswerGrammar.optional(),
      json_object: z.boolean().optional(),
      structural_tag: unsupported('structural tags are'),
      whitespace_pattern: unsupported('a pattern for white space is'),
      disable_fallback: ignored,
      disable_any_whitespace: ignored,
      disable_additional_properties: ignored,
    })
    .optional(),
  json_schema: SchemaOrText.optional(),
  regex: AnswerPattern.optional(),
  ebnf: AnswerGrammar.optional(),
  grammar: z.union([z.literal(''), AnswerGrammar]).optional(),
}

type Format = z.infer<typeof ResponseFormat> | z.infer<typeof TextFormat> | z.infer<typeof MessageFormat>

/** A body's fields that say what its answer must match. */
export interface FormatBody extends Partial<z.infer<z.ZodObject<typeof FormatFields>>> {
  readonly response_format?: Format | undefined
  readonly text?: { readonly format?: Format | undefined } | undefined
  readonly output_config?: { readonly format?: Format | undefined } | undefined
  readonly output_format?: Format | undefined
}

/** What a body's answer must match, and the path of the field that says so; undefined when it may be any text. */
export function outputFormatOf(body: FormatBody): { field: string; format: OutputFormat } | undefined {
  const { structured_outputs: outputs } = body
  const found: [string, OutputFormat | undefined][] = [
    ['response_format', ofFormat(body.response_format)],
    ['text.format', ofFormat(body.text?.format)],
    ['output_config.format', ofFormat(body.output_config?.format)],
    ['output_format', ofFormat(body.output_format)],
    ['guided_json', ofSchema(body.guided_json)],
    ['json_schema', ofSchema(body.json_schema)],
    ['structured_outputs.json', ofSchema(outputs?.json)],
    ['structured_outputs.json_object', outputs?.json_object ? ofSchema(ANY_OBJECT) : undefined],
    ['guided_regex', ofPattern(body.guided_regex)],
    ['regex', ofPattern(body.regex)],
    ['structured_outputs.regex', ofPattern(outputs?.regex)],
    ['guided_choice', ofChoices(body.guided_choice)],
    ['structured_outputs.choice', ofChoices(outputs?.choice)],
    ['guided_grammar', ofGrammar(body.guided_grammar)],
    ['grammar', ofGrammar(body.grammar)],
    ['ebnf', ofGrammar(body.ebnf)],
    ['structured_outputs.grammar', ofGrammar(outputs?.grammar)],
  ]
  const given = found.flatMap(([field, format]) => (format ? [{ field, format }] : []))
  const [first, second] = given
  if (first && second) {
    const message = `${second.field}: the answer's format is in ${first.field} already`
    throw new AparError('invalid_request', message, { param: second.field })
  }
  return first
}

function ofFormat(format: Format | undefined): OutputFormat | undefined {
  if (format === undefined || format.type === 'text') return undefined
  const schema = 'json_schema' in format ? format.json_schema.schema : 'schema' in format && format.schema
  return ofSchema(schema || ANY_OBJECT)
}

function ofSchema(schema: Record<string, unknown> | undefined): OutputFormat | undefined {
  return schema && { type: 'json_schema', schema }
}

function ofPattern(pattern: string | undefined): OutputFormat | undefined {
  return pattern === undefined ? undefined : { type: 'regex', pattern }
}

function ofChoices(choices: string[] | undefined): OutputFormat | undefined {
  return choices && { type: 'choice', choices }
}

function ofGrammar(grammar: string | undefined): OutputFormat | undefined {
  return grammar ? { type: 'grammar', grammar } : undefined
}
