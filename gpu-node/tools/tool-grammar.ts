import type { GenerateRequest } from '../../shared/protocol/request.ts'
import type { Tool } from '../../shared/protocol/tools.ts'
import { engineSchema, patternsOf } from '../grammar/engine-schema.ts'
import { formatTag } from '../grammar/format-tag.ts'
import type { GrammarSource } from '../grammar/grammar-source.ts'
import type { Tag } from '../grammar/tag-grammar.ts'
import { behindReasoning } from '../reasoning/reasoning-grammar.ts'
import type { AnswerStart } from '../reasoning/reasoning-start.ts'
import { servedSchema } from './served-schema.ts'
import type { ToolFormat } from './tool-format.ts'

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
  const grammar = new ToolGrammar(format, schemas)
  const tag = behindReasoning(grammar.answer(request), start)
  const ofAnswer =
    request.output_format?.type === 'json_schema' ? [engineSchema(request.output_format.schema)] : []
  const patterns = new Set([...schemas.values(), ...ofAnswer].flatMap((schema) => [...patternsOf(schema)]))
  return { kind: 4, text: JSON.stringify({ type: 'structural_tag', format: tag }), patterns: [...patterns] }
}

class ToolGrammar {
  readonly #format: ToolFormat
  readonly #schemas: ReadonlyMap<string, unknown>

  constructor(format: ToolFormat, schemas: ReadonlyMap<string, unknown>) {
    this.#format = format
    this.#schemas = schemas
  }

  answer({ tools, tool_choice = 'auto', parallel_tool_calls = true, output_format }: ToolRequest): Tag {
    const named = typeof tool_choice === 'object' ? tool_choice.name : undefined
    const names = tools.map(({ name }) => name).filter((name) => named === undefined || name === named)
    const calls = this.#calls(names, parallel_tool_calls)
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
    const schema = { type: 'json_schema', json_schema: this.#schemas.get(name) }
    return sequence([...literal(begin + name + middle), schema, ...literal(end)])
  }

  /** What text never has. */
  #excluded(names: readonly string[]): string[] {
    const { trigger, open, begin } = this.#format
    return trigger === undefined ? names.map((name) => `${open}${begin}${name}"`) : [trigger]
  }
}

function literal(value: string): Tag[] {
  return value === '' ? [] : [{ type: 'const_string', value }]
}

function sequence(elements: readonly Tag[]): Tag {
  return { type: 'sequence', elements }
}
