import type { OutputFormat } from '../../shared/protocol/output-format.ts'
import { engineSchema } from './engine-schema.ts'
import type { Tag } from './tag-grammar.ts'

/** A format as part of a structural tag. */
export function formatTag(format: OutputFormat): Tag {
  switch (format.type) {
    case 'json_schema':
      return { type: 'json_schema', json_schema: engineSchema(format.schema) }
    case 'regex':
      return { type: 'regex', pattern: format.pattern.toWellFormed() }
    case 'choice':
      return {
        type: 'or',
        elements: format.choices.map((value) => ({ type: 'const_string', value: value.toWellFormed() })),
      }
    case 'grammar':
      return { type: 'grammar', grammar: format.grammar.toWellFormed() }
  }
}
