/** A segment of a branch's own text, and the branch that forks at its end. */
export interface Part {
  text: string
  /** The branch: its own text, which may fork again. Its first part has text, so that no [Fork] follows [Child]. */
  detail?: Part[]
}

/**
 * A structured answer. In the profile `default` all white space is kept: the parts in document order are the answer,
 * byte for byte, and joints need no mending.
 */
export interface Structure {
  /** What forks at the top level; nested branches may be of other kinds. */
  kind: 'list' | 'paragraphs' | 'bullets' | 'headings'
  parts: Part[]
}

/** Reasons why an answer was not used as structured. The names are part of the build report. */
export const RULES = {
  no_turn: 'the conversation has no turn',
  empty_answer: 'the first answer is empty',
  marker: 'the text spells out a special token, such as [Fork], [Child], </s> or <|im_end|>',
  too_long: 'too long for the rules of the profile reference, whose time grows with the square of the length',
  cjk: 'Chinese, Japanese or Korean text',
  code_fence: 'a code fence ``` (profile default: around or inside everything that could fork)',
  maths: 'a displayed formula $$',
  code: 'code without a fence',
  equations: 'lines that are equations, or a displayed formula in LaTeX',
  steps: 'headings "Step N"',
  angle_bracket: '< or >',
  equals: '=',
  rule_line: '---',
  link: 'http',
  list_too_short: 'a list with titles of fewer than 3 items',
  list_numbering: 'list numbers that are not consecutive',
  list_detail_too_short: 'list details of fewer than 10 characters',
  list_mixed: 'a list of which only some items have a title',
  list_nested: 'a numbered list inside a list detail',
  repeats: 'two titles, or two details, that are the same',
  list_repeated: 'two details of a list that are the same text',
  list_not_closed: 'the last list item is not followed by a blank line, or by more than one',
  paragraphs_abbreviation: 'mr., mrs. or dr., where a full stop ends no sentence',
  paragraphs_short_piece: 'a paragraph of fewer than 20 characters',
  no_structure: 'no list, no sections, and not more than 2 paragraphs: there is nothing to fork',
  paragraphs_too_few: 'not more than 2 paragraphs (profile reference)',
  paragraphs_too_few_forks: 'fewer than 3 paragraphs that can be split after their first sentence',
} as const

export type Rule = keyof typeof RULES

/** The rules as a Markdown table, for docs/data-rules.md. */
export function ruleTable(): string {
  const rows = Object.entries(RULES).map(
    ([name, meaning]) => `| ${name} | ${meaning.replaceAll('|', '\\|')} |`,
  )
  return ['| rule | what it refuses |', '| --- | --- |', ...rows].join('\n')
}

/** `keep`: the answer teaches as unstructured text when not to fork. Otherwise it is left out. */
export type Extraction = { structure: Structure } | { rule: Rule; keep: boolean }

/** The answer in serial form: every detail right after its text. */
export function documentOrder(parts: readonly Part[]): string {
  return parts.map((part) => part.text + (part.detail ? documentOrder(part.detail) : '')).join('')
}

/** Number of forks, nested ones included. */
export function countForks(parts: readonly Part[]): number {
  let forks = 0
  for (const { detail } of parts) if (detail) forks += 1 + countForks(detail)
  return forks
}

/** Branches on the longest path from the root, the root included: 1 without a fork. */
export function depthOf(parts: readonly Part[]): number {
  let depth = 1
  for (const { detail } of parts) if (detail) depth = Math.max(depth, 1 + depthOf(detail))
  return depth
}
