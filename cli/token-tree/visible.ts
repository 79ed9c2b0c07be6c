/**
 * Control characters, and those that change the direction of text or show nothing: what is shown can neither control a
 * terminal nor look like another text.
 */
const INVISIBLE =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: naming them is the point
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e01ef}]|\p{Surrogate}/gu

/** The text with names for characters that cannot be seen; line breaks stay. */
export function withNames(text: string): string {
  return text.replace(INVISIBLE, named)
}

/** The same with a mark before each line break. */
export function visible(text: string): string {
  return withNames(text).replaceAll('\n', '↵\n')
}

/** The same for one line. */
export function flat(text: string): string {
  return text.replace(INVISIBLE, named).replace(/\s+/g, ' ')
}

function named(character: string): string {
  return `⟨U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}⟩`
}
