import type { OutputFormat } from '../../shared/protocol/output-format.ts'
import { behindReasoning } from '../reasoning/reasoning-grammar.ts'
import type { AnswerStart } from '../reasoning/reasoning-start.ts'
import { literal } from './ebnf-literal.ts'
import { engineSchema, patternsOf } from './engine-schema.ts'
import { formatTag } from './format-tag.ts'

/** What the grammar engine compiles; `kind` as in native/grammar/grammar_engine.h. */
export interface GrammarSource {
  readonly kind: 1 | 2 | 3 | 4 | 5
  /**
   * Of kind 4: a structural tag, whose parts of the type `json_schema` the compiler makes grammars. Of kind 5: the same tag,
   * of texts that are JSON, in parts that all become one grammar.
   */
  readonly text: string
  /** Of a schema, which are checked each alone: the grammar engine does not keep to all of them. */
  readonly patterns: readonly string[]
}

/** A pattern to check, as a frame of native/tools/compile_grammar.cpp has it. */
export function patternCheck(pattern: string): string {
  return `${JSON.stringify({ type: 'string', pattern })}\0${pattern}`
}

/** `start`: of an answer that may think before it keeps to the format. */
export function grammarSource(format: OutputFormat, start?: AnswerStart): GrammarSource {
  const alone = sourceOf(format)
  if (!start || start.start === 'behind') return alone
  const tag = behindReasoning(formatTag(format), start)
  return { ...alone, kind: 4, text: JSON.stringify({ type: 'structural_tag', format: tag }) }
}

function sourceOf(format: OutputFormat): GrammarSource {
  switch (format.type) {
    case 'json_schema': {
      const schema = engineSchema(format.schema)
      return { kind: 1, text: JSON.stringify(schema), patterns: [...patternsOf(schema)] }
    }
    case 'regex':
      return { kind: 2, text: format.pattern.toWellFormed(), patterns: [] }
    case 'choice':
      return { kind: 3, text: `root ::= ${format.choices.map(literal).join(' | ')}`, patterns: [] }
    case 'grammar':
      return { kind: 3, text: format.grammar.toWellFormed(), patterns: [] }
  }
}
