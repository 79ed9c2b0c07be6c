import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { finished } from 'node:stream/promises'
import { seededRandom } from '../../training/data/random.ts'

const VOCABULARY = 40_000
const SYLLABLES = [
  'ba',
  'con',
  'der',
  'el',
  'fin',
  'ing',
  'ka',
  'lo',
  'men',
  'ner',
  'or',
  'pro',
  'qui',
  'ra',
  'st',
  'tion',
]
/** Conversations that are written at once. */
const CHUNK = 64

/**
 * Writes a ShareGPT array of about `bytes`, the same on every machine: 1 to 6 turns, whose answers are lists with titles,
 * paragraphs, code and short answers. Words are as rare as in English (Zipf's law), so that most are known and many are
 * not.
 */
export async function writeSyntheticConversations(path: string, bytes: number): Promise<number> {
  const random = seededRandom(16)
  const text = new SyntheticText(random)
  const output = createWriteStream(path)
  let written = 0
  let count = 0
  while (written < bytes) {
    const conversations = Array.from({ length: CHUNK }, () => JSON.stringify(text.conversation(count++)))
    const chunk = `${written === 0 ? '[' : ',\n'}${conversations.join(',\n')}`
    written += chunk.length
    if (!output.write(chunk)) await once(output, 'drain')
  }
  output.end(']\n')
  await finished(output)
  return count
}

class SyntheticText {
  readonly #random: () => number
  readonly #words: string[]

  constructor(random: () => number) {
    this.#random = random
    this.#words = Array.from({ length: VOCABULARY }, (_, rank) => this.#newWord(rank))
  }

  conversation(number: number) {
    const turns = 1 + this.#below(6)
    const conversations = Array.from({ length: turns }, () => [
      { from: 'human', value: `${this.#sentence()} ${this.#sentence()}` },
      { from: 'gpt', value: this.#answer() },
    ])
    return { id: `synthetic-${number}`, conversations: conversations.flat() }
  }

  #answer(): string {
    const kind = this.#random()
    if (kind < 0.3) return this.#list()
    if (kind < 0.5) return this.#times(3 + this.#below(4), () => this.#paragraph()).join('\n\n')
    if (kind < 0.7)
      return `${this.#paragraph()}\n\n\`\`\`python\n${this.#code()}\n\`\`\`\n\n${this.#paragraph()}`
    return this.#paragraph()
  }

  #list(): string {
    const items = this.#times(
      3 + this.#below(8),
      (index) => `${index + 1}. ${this.#phrase(2)}: ${this.#sentence()} ${this.#sentence()}`,
    )
    return `${this.#sentence()}\n\n${items.join('\n')}\n\n${this.#sentence()}`
  }

  #paragraph(): string {
    return this.#times(3 + this.#below(4), () => this.#sentence()).join(' ')
  }

  #code(): string {
    return this.#times(
      8,
      () => `    ${this.#word()}_${this.#word()} = ${this.#word()}(${this.#below(1000)})`,
    ).join('\n')
  }

  #sentence(): string {
    const words = this.#phrase(6 + this.#below(14))
    return `${words.charAt(0).toUpperCase()}${words.slice(1)}${this.#random() < 0.1 ? `, or ${this.#below(3000)}` : ''}.`
  }

  #phrase(words: number): string {
    return this.#times(words, () => this.#word()).join(' ')
  }

  /** The word of rank r comes about 1/r times as often as the first. */
  #word(): string {
    const rank = Math.floor(VOCABULARY ** this.#random()) - 1
    return this.#words[rank] ?? ''
  }

  #newWord(rank: number): string {
    const syllables = 1 + Math.floor(Math.log10(rank + 1)) + this.#below(2)
    return this.#times(syllables, () => SYLLABLES[this.#below(SYLLABLES.length)] ?? '').join('')
  }

  #times<T>(count: number, make: (index: number) => T): T[] {
    return Array.from({ length: count }, (_, index) => make(index))
  }

  #below(end: number): number {
    return Math.floor(this.#random() * end)
  }
}
