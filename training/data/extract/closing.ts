import type { Line } from './lines.ts'

/** How models begin what they say at the end about an answer as a whole. */
const OPENINGS = [
  'Remember|Overall|Ultimately|Therefore|Thus|However|Please|Of course|So|Finally, (?:remember|keep)|Keep in mind|Note that',
  'In (?:conclusion|summary|short|general|addition to)|To (?:conclude|summarize|sum up)|As (?:far as|you can see)',
  'These|This list|There (?:are|is)|With (?:these|this)|All (?:of )?these|By (?:following|doing)|Following these',
  "It(?:'s| is) (?:also )?(?:important|worth|essential)|If (?:you|these|none)|Regardless|Whichever|Whatever",
  'I hope|Hope|Let me know|Feel free|Would you like|Do you|Good luck|Enjoy|Have fun|Happy',
]
const OPENING = new RegExp(`(?:${OPENINGS.join('|')})\\b`, 'y')

/** Whether a line of text begins like the end of an answer, which belongs to no item or section. English only. */
export function isClosing(text: string, line: Line): boolean {
  OPENING.lastIndex = line.start
  return line.kind === 'text' && OPENING.test(text)
}
