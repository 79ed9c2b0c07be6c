import type { GenerateRequest } from '../../shared/protocol/request.ts'
import type { Tool } from '../../shared/protocol/tools.ts'
import { engineSchema, patternsOf } from '../grammar/engine-schema.ts'
import { formatTag } from '../grammar/format-tag.ts'
import type { GrammarSource } from '../grammar/grammar-source.ts'
import { type Tag, TEXT_WITHOUT } from '../grammar/tag-grammar.ts'
import { behindReasoning } from '../reasoning/reasoning-grammar.ts'
import type { AnswerStart } from '../reasoning/reasoning-start.ts'
import { type Parameter, type ToolParameters, toolParameters } from './parameters.ts'
import { servedSchema } from './served-schema.ts'
import type { ParameterFormat, ToolFormat } from './tool-format.ts'

export type ToolRequest = Pick<GenerateRequest, 'tool_choice' | 'parallel_tool_calls' | 'output_format'> & {
  readonly tools: readonly Tool[]
}

/**
 * What an answer that may call tools matches: any text, or what `output_format` says, and calls whose arguments keep to
 * their schemas. `anyArguments`: for schemas that the grammar engine cannot compile.
 */
export function toolGrammar(
  request: ToolRequest,
  format: ToolFormat,
  start?: AnswerStart,
  anyArguments = false,
): GrammarSource {
  const schemas = new Map(
    request.tools.map(({ name, parameters }) => {
      return [name, engineSchema(anyArguments ? { type: 'object' } : servedSchema(parameters))]
    }),
  )
  const grammar = new ToolGrammar(format, schemas, anyArguments ? undefined : toolParameters(request, format))
  const tag = behindReasoning(grammar.answer(request), start)
  const ofAnswer =
    request.output_format?.type === 'json_schema' ? [engineSchema(request.output_format.schema)] : []
  const patterns = new Set([...schemas.values(), ...ofAnswer].flatMap((schema) => [...patternsOf(schema)]))
  return { kind: 4, text: JSON.stringify({ type: 'structural_tag', format: tag }), patterns: [...patterns] }
}

class ToolGrammar {
  readonly #format: ToolFormat
  readonly #schemas: ReadonlyMap<string, unknown>
  readonly #parameters: ToolParameters | undefined

  constructor(
    format: ToolFormat,
    schemas: ReadonlyMap<string, unknown>,
    parameters: ToolParameters | undefined,
  ) {
    this.#format = format
    this.#schemas = schemas
    this.#parameters = parameters
  }

  answer({ tools, tool_choice = 'auto', parallel_tool_calls = true, output_format }: ToolRequest): Tag {
    const named = typeof tool_choice === 'object' ? tool_choice.name : undefined
    const names = tools.map(({ name }) => name).filter((name) => named === undefined || name === named)
    // Clients that name one expect one call: small models repeat theirs until nothing is left of `max_tokens`.
    const calls = this.#calls(names, parallel_tool_calls && named === undefined)
    if (tool_choice !== 'auto') return calls
    if (output_format) return { type: 'or', elements: [formatTag(output_format), calls] }
    return sequence([
      { type: 'any_text', excludes: this.#excluded(names) },
      { type: 'optional', content: calls },
    ])
  }

  #calls(names: readonly string[], several: boolean): Tag {
    const { open, between, close } = this.#format
    const call = { type: 'or', elements: names.map((name) => this.#call(name)) }
    const others = sequence([...literal(between), call])
    const more = several ? [{ type: 'star', content: others }] : []
    return sequence([...literal(open), call, ...more, ...literal(close)])
  }

  #call(name: string): Tag {
    const { begin, middle, end } = this.#format
    return sequence([...literal(begin + name + middle), ...this.#arguments(name), ...literal(end)])
  }

  #arguments(name: string): Tag[] {
    const { parameters: written } = this.#format
    const list = this.#parameters?.get(name)
    if (written && list) return list.map((each) => parameterTag(each, written))
    const schema = { type: 'json_schema', json_schema: this.#schemas.get(name) }
    return [schema, ...literal(written ? '\n' : '')]
  }

  /** What text never has. */
  #excluded(names: readonly string[]): string[] {
    const { trigger, open, begin } = this.#format
    return trigger === undefined ? names.map((name) => `${open}${begin}${name}"`) : [trigger]
  }
}

function parameterTag(parameter: Parameter, { begin, middle, end }: ParameterFormat): Tag {
  const { name, isRequired } = parameter
  const opened = literal(begin + name + middle)
  const content = sequence([...opened, ...valueTags(parameter, end)])
  return isRequired ? content : { type: 'optional', content }
}

function valueTags({ as, schema }: Parameter, end: string): Tag[] {
  // Its line feed is part of the text, as of all that has none of the marker.
  if (as === 'text' || as === 'text or null')
    return [{ type: TEXT_WITHOUT, excludes: [end.trimEnd()] }, ...literal(end)]
  if (as === 'json')
    return [{ type: 'json_schema', json_schema: engineSchema(schema) }, ...literal(`\n${end}`)]
  return [
    { type: 'or', elements: as.map((value) => ({ type: 'const_string', value })) },
    ...literal(`\n${end}`),
  ]
}

function literal(value: string): Tag[] {
  return value === '' ? [] : [{ type: 'const_string', value }]
}

function sequence(elements: readonly Tag[]): Tag {
  return { type: 'sequence', elements }
}
