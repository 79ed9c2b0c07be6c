/** A segment of an answer's main text; its detail, if any, can be generated in parallel with the following text. */
export interface Part {
  text: string
  detail?: string
}

/** A structured answer: its parts in document order. All white space is kept, so joints need no mending. */
export interface Structure {
  kind: 'list' | 'paragraphs'
  parts: Part[]
}

/** Reasons why an answer was not used as structured. The names are part of the build report. */
export const RULES = {
  no_turn: 'the conversation has no turn',
  empty_answer: 'the first answer is empty',
  marker: 'the text spells out a special token: [Fork], [Child], <s>, </s> or <unk>',
  cjk: 'Chinese, Japanese or Korean text',
  code_fence: 'a code fence ```',
  maths: 'a formula $$',
  angle_bracket: '< or >',
  equals: '=',
  rule_line: '---',
  link: 'http',
  list_too_short: 'a numbered list of fewer than 3 items "N. title: detail"',
  list_numbering: 'list numbers that are not consecutive',
  list_detail_too_short: 'a list detail of fewer than 10 characters',
  list_nested: 'a numbered list inside a list detail',
  list_not_closed: 'the last list item is followed by more text without a blank line',
  paragraphs_abbreviation: 'mr., mrs. or dr., where a full stop ends no sentence',
  paragraphs_too_few: 'not more than 2 paragraphs',
  paragraphs_too_few_forks: 'fewer than 3 paragraphs that can be split after their first sentence',
} as const

export type Rule = keyof typeof RULES

export type Extraction = { structure: Structure } | { rule: Rule }

/** The answer in serial form: every detail right after its text. */
export function documentOrder(parts: readonly Part[]): string {
  return parts.map((part) => part.text + (part.detail ?? '')).join('')
}
