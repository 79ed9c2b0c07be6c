import type { TextFile } from './batch.ts'

/** Files of JSON lines; the others are arrays. */
export function isLines(file: TextFile): boolean {
  return file.endsWith('.jsonl')
}

/** What comes before the first element of an array, between two, and behind the last; an array without any. */
export const ARRAY = { open: '[\n', separator: ',\n', close: '\n]\n', empty: '[]\n' } as const

/** Texts for a build's files. Elements of an array each have the separator before them. */
export class TextOutputs {
  readonly #texts: Partial<Record<TextFile, string[]>> = {}

  add(file: TextFile, value: unknown): void {
    this.#texts[file] ??= []
    const text = JSON.stringify(value)
    this.#texts[file].push(isLines(file) ? `${text}\n` : `${ARRAY.separator}${text}`)
  }

  take(): Partial<Record<TextFile, Uint8Array<ArrayBuffer>>> {
    const files: Partial<Record<TextFile, Uint8Array<ArrayBuffer>>> = {}
    for (const [file, texts] of Object.entries(this.#texts)) {
      files[file as TextFile] = new TextEncoder().encode(texts.join(''))
    }
    return files
  }
}
