/**
 * Follows JSON of the grammar engine, which lets control characters into strings that have a length or a pattern: they are
 * written as JSON writes them.
 */
export class JsonScanner {
  #depth = 0
  #inString = false
  #escaped = false

  push(text: string): { json: string } {
    return this.#scan(text, 'never')
  }

  /** `length`: of what belongs to the object that the text began with, in this text. */
  pushObject(text: string): { json: string; length: number; isWhole: boolean } {
    return this.#scan(text, 'behind object')
  }

  /** The same of a value on a line of its own, without the line feed. */
  pushLine(text: string): { json: string; length: number; isWhole: boolean } {
    return this.#scan(text, 'at line feed')
  }

  #scan(
    text: string,
    stops: 'never' | 'behind object' | 'at line feed',
  ): { json: string; length: number; isWhole: boolean } {
    let json = ''
    for (let at = 0; at < text.length; at++) {
      const char = text[at] ?? ''
      if (stops === 'at line feed' && char === '\n' && !this.#inString)
        return { json, length: at, isWhole: true }
      json += this.#inString && char < ' ' ? JSON.stringify(char).slice(1, -1) : char
      this.#take(char)
      if (stops === 'behind object' && this.#depth === 0) return { json, length: at + 1, isWhole: true }
    }
    return { json, length: text.length, isWhole: false }
  }

  #take(char: string): void {
    if (this.#inString) {
      if (this.#escaped) this.#escaped = false
      else if (char === '\\') this.#escaped = true
      else if (char === '"') this.#inString = false
    } else if (char === '"') this.#inString = true
    else if (char === '{' || char === '[') this.#depth++
    else if (char === '}' || char === ']') this.#depth--
  }
}
