import type { Tag } from '../grammar/tag-grammar.ts'
import type { AnswerStart } from './reasoning-start.ts'

/** Models write one or two line breaks behind their reasoning; with any white space, small ones write no end of it. */
const BREAK: Tag = { type: 'optional', content: { type: 'const_string', value: '\n' } }

/** The grammar of an answer that may think first: its own begins behind the reasoning. */
export function behindReasoning(answer: Tag, at: AnswerStart | undefined): Tag {
  if (!at || at.start === 'behind') return answer
  const { open, close } = at.format
  const rest: Tag[] = [
    { type: 'any_text', excludes: [close] },
    { type: 'const_string', value: close },
    ...[BREAK, BREAK],
  ]
  if (at.start === 'inside') return { type: 'sequence', elements: [...rest, answer] }
  const span: Tag = { type: 'sequence', elements: [{ type: 'const_string', value: open }, ...rest] }
  return { type: 'sequence', elements: [{ type: 'optional', content: span }, answer] }
}
