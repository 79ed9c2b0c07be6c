import type { OutputFormat } from '../../shared/protocol/output-format.ts'
import { engineSchema } from './engine-schema.ts'

/** What the grammar engine compiles; `kind` as in native/grammar/grammar_engine.h. */
export interface GrammarSource {
  readonly kind: 1 | 2 | 3
  readonly text: string
}

export function grammarSource(format: OutputFormat): GrammarSource {
  switch (format.type) {
    case 'json_schema':
      return { kind: 1, text: JSON.stringify(engineSchema(format.schema)) }
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
