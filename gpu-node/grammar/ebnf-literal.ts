/** A text in EBNF. */
export function literal(text: string): string {
  const escaped = text.toWellFormed().replace(/[\\"\p{Cc}]/gu, (char) => {
    return `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`
  })
  return `"${escaped}"`
}
