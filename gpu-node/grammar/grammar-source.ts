import type { OutputFormat } from '../../shared/protocol/output-format.ts'

/** What the grammar engine compiles; `kind` as in native/grammar/grammar_engine.h. */
export interface GrammarSource {
  readonly kind: 1 | 2 | 3
  readonly text: string
}

export function grammarSource(format: OutputFormat): GrammarSource {
  switch (format.type) {
    case 'json_schema':
      return { kind: 1, text: JSON.stringify(whole(format.schema)) }
    case 'regex':
      return { kind: 2, text: format.pattern.toWellFormed() }
    case 'choice':
      return { kind: 3, text: `root ::= ${format.choices.map(literal).join(' | ')}` }
    case 'grammar':
      return { kind: 3, text: format.grammar.toWellFormed() }
  }
}

/** A text in EBNF. */
function literal(text: string): string {
  const escaped = text.toWellFormed().replace(/[\\"\p{Cc}]/gu, (char) => {
    return `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`
  })
  return `"${escaped}"`
}

/**
 * The schema with what the grammar engine takes for excluded where it is not written: items of a list, and members of
 * an object without `properties`.
 */
function whole(schema: unknown): unknown {
  if (typeof schema !== 'object' || schema === null || Array.isArray(schema)) return schema
  const out: Record<string, unknown> = {}
  for (const [keyword, value] of Object.entries(schema)) out[keyword] = inside(keyword, value)
  const { type } = out
  const types: unknown[] = Array.isArray(type) ? type : [type]
  if (types.includes('array') && !('items' in out)) out.items = !('prefixItems' in out)
  const hasKeys = ['properties', 'patternProperties', 'propertyNames', 'additionalProperties'].some(
    (key) => key in out,
  )
  if (types.includes('object') && !hasKeys) out.additionalProperties = true
  return out
}

function inside(keyword: string, value: unknown): unknown {
  if (keyword === 'const' || keyword === 'enum' || keyword === 'default' || keyword === 'examples')
    return value
  if (Array.isArray(value)) return value.map(whole)
  const isMap = ['properties', 'patternProperties', '$defs', 'definitions'].includes(keyword)
  if (!isMap || typeof value !== 'object' || value === null) return whole(value)
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, whole(member)]))
}
