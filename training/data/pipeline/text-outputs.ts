import type { ProfileName } from '../extract/profile.ts'
import type { TextFile } from './batch.ts'

/**
 * How the values of a file are written: one a line, or as Python's `json.dump(…, indent=4)` writes an array, as the
 * reference's scripts do.
 */
type Style = 'lines' | 'array' | 'indented'

export function styleOf(file: TextFile, profile: ProfileName): Style {
  if (file.endsWith('.jsonl')) return 'lines'
  return profile === 'reference' ? 'indented' : 'array'
}

/** What comes before the first element, between two, and behind the last. */
export const ARRAY_FRAMES = {
  array: { open: '[\n', separator: ',\n', close: '\n]\n', empty: '[]\n' },
  indented: { open: '[\n', separator: ',\n', close: '\n]', empty: '[]' },
} as const

/** Texts for a build's files. Elements of an array each have the separator before them. */
export class TextOutputs {
  readonly #profile: ProfileName
  readonly #texts: Partial<Record<TextFile, string[]>> = {}

  constructor(profile: ProfileName) {
    this.#profile = profile
  }

  add(file: TextFile, value: unknown): void {
    const texts = (this.#texts[file] ??= [])
    const style = styleOf(file, this.#profile)
    if (style === 'lines') texts.push(JSON.stringify(value), '\n')
    else if (style === 'array') texts.push(ARRAY_FRAMES.array.separator, JSON.stringify(value))
    // As an element of an array, for its indentation.
    else texts.push(ARRAY_FRAMES.indented.separator, JSON.stringify([value], null, 4).slice(2, -2))
  }

  take(): Partial<Record<TextFile, Uint8Array<ArrayBuffer>>> {
    const files: Partial<Record<TextFile, Uint8Array<ArrayBuffer>>> = {}
    for (const [file, texts] of Object.entries(this.#texts)) {
      files[file as TextFile] = new TextEncoder().encode(texts.join(''))
    }
    return files
  }
}
