import { isAnnotation, isObject } from '../../shared/protocol/answer-schema.ts'
import type { Tool } from '../../shared/protocol/tools.ts'
import { servedSchema } from './served-schema.ts'
import type { ParameterFormat, ToolFormat } from './tool-format.ts'

type Schema = Record<string, unknown>

/** A parameter of a tool, where arguments are written one by one. */
export interface Parameter {
  readonly name: string
  readonly isRequired: boolean
  /** Stands alone: with the definitions that it refers to. */
  readonly schema: Schema
  /** How its value is written: as text, as text of which `null` is null, as one of some texts, or as JSON on one line. */
  readonly as: 'text' | 'text or null' | 'json' | readonly string[]
}

/** Of each tool; undefined for one whose arguments are a JSON object. */
export type ToolParameters = ReadonlyMap<string, readonly Parameter[] | undefined>

/** undefined in a format whose arguments always are a JSON object. */
export function toolParameters(
  { tools }: { readonly tools: readonly Tool[] },
  { parameters: format }: ToolFormat,
): ToolParameters | undefined {
  return (
    format &&
    new Map(tools.map(({ name, parameters }) => [name, parametersOf(servedSchema(parameters), format)]))
  )
}

/** Keywords of a tool's schema that say no more than its parameters. */
const OF_PARAMETERS = ['type', 'properties', 'required', 'additionalProperties']

/**
 * The parameters of a tool whose arguments have this schema (of `servedSchema`), in the order in which they are written.
 * undefined: arguments of this schema are not a list of parameters, and are written as a JSON object.
 */
export function parametersOf(schema: Schema, format: ParameterFormat): Parameter[] | undefined {
  const { properties, required = [], $defs, definitions } = schema
  const isList = Object.keys(schema).every((key) => OF_PARAMETERS.includes(key) || isAnnotation(key))
  if (!isList || !isObject(properties) || !Array.isArray(required) || refersElsewhere(schema))
    return undefined
  const names = Object.keys(properties)
  if (!required.every((name) => names.includes(name)) || names.some(hasMarkup)) return undefined
  const parameters: Parameter[] = []
  for (const [name, property] of Object.entries(properties)) {
    const own = isObject(property) ? property : {}
    const defined = {
      ...($defs !== undefined && { $defs }),
      ...(definitions !== undefined && { definitions }),
    }
    const refers = JSON.stringify(own).includes('"$ref"')
    const as = writtenAs(own, format)
    parameters.push({
      ...{ name, isRequired: required.includes(name), as },
      schema: refers ? { ...own, ...defined } : own,
    })
  }
  return parameters
}

function hasMarkup(name: string): boolean {
  return /[<>\n]/.test(name)
}

/** To another place than the definitions of the whole. */
function refersElsewhere(schema: Schema): boolean {
  return /"\$ref":"(?!#\/(\$defs|definitions)\/)/.test(JSON.stringify(schema))
}

/** Text has no quotes, so nothing but its choices can be said of it: what has a length or a pattern is JSON. */
function writtenAs(schema: Schema, format: ParameterFormat): Parameter['as'] {
  const { type, enum: choices, const: constant, anyOf } = withoutAnnotations(schema)
  const keywords = Object.keys(withoutAnnotations(schema))
  const texts = constant === undefined ? choices : [constant]
  if (Array.isArray(texts) && texts.every((text) => isChoice(text, format))) return texts
  if (keywords.length !== 1) return 'json'
  if (type === 'string') return 'text'
  if (Array.isArray(type) && isTextOrNull(type)) return 'text or null'
  if (!Array.isArray(anyOf)) return 'json'
  const types = anyOf.map((each) => {
    const rest = isObject(each) ? withoutAnnotations(each) : {}
    return Object.keys(rest).length === 1 ? rest.type : undefined
  })
  return isTextOrNull(types) ? 'text or null' : 'json'
}

function withoutAnnotations(schema: Schema): Schema {
  return Object.fromEntries(Object.entries(schema).filter(([key]) => !isAnnotation(key)))
}

function isTextOrNull(types: readonly unknown[]): boolean {
  return types.length === 2 && types.includes('string') && types.includes('null')
}

function isChoice(value: unknown, { end }: ParameterFormat): value is string {
  return typeof value === 'string' && !value.includes(end.trimEnd()) && !value.endsWith('\n')
}
