/**
 * Where the end of a text begins that may turn out to be white space in front of one of the openings, or the beginning of
 * one: the text's length when nothing of it may.
 */
export function heldBack(text: string, openings: Iterable<string>): number {
  let begin = text.length
  for (const opening of openings) {
    for (let at = Math.max(0, text.length - opening.length + 1); at < begin; at++)
      if (opening.startsWith(text.slice(at))) begin = at
  }
  return text.slice(0, begin).trimEnd().length
}
