/** A run of text of one origin: the template's author, or anybody else (a user, a document, a model). */
export interface Piece {
  readonly text: string
  readonly ofTemplate: boolean
}

export function textOf(pieces: readonly Piece[]): string {
  return pieces.map(({ text }) => text).join('')
}

/** The same text in as few pieces as possible, so that a token is found also where the template assembled it. */
export function merged(pieces: readonly Piece[]): Piece[] {
  const runs: { texts: string[]; ofTemplate: boolean }[] = []
  for (const { text, ofTemplate } of pieces) {
    if (text === '') continue
    const last = runs.at(-1)
    if (last?.ofTemplate === ofTemplate) last.texts.push(text)
    else runs.push({ texts: [text], ofTemplate })
  }
  return runs.map(({ texts, ofTemplate }) => ({ text: texts.join(''), ofTemplate }))
}

/** The pieces of the characters `start` to `end` (UTF-16 code units). */
export function sliced(pieces: readonly Piece[], start: number, end: number): Piece[] {
  let at = 0
  return pieces.flatMap(({ text, ofTemplate }) => {
    const part = text.slice(Math.max(0, start - at), Math.max(0, end - at))
    at += text.length
    return part === '' ? [] : [{ text: part, ofTemplate }]
  })
}
