/** In every card of ours: another README.md is not overwritten. */
export const MARK = '<!-- made by apar train card -->'

/** The head of a card, which the hub reads as YAML. */
export function frontMatterOf(lines: readonly string[]): string {
  return ['---', ...lines, '---', MARK].join('\n')
}
