import { EXAMPLE_KINDS, type Example, type ExampleKind, longestPath, tokenCount } from '../encode/tree.ts'

/** Of a segment without a parent. */
export const NO_PARENT = 0xffffffff

/** Some examples in the form of a shard (writer.ts); offsets begin at 0. */
export interface EncodedSplit {
  tokens: Uint16Array<ArrayBuffer> | Uint32Array<ArrayBuffer>
  learned: Uint8Array<ArrayBuffer>
  segments: Uint32Array<ArrayBuffer>
  examples: Uint32Array<ArrayBuffer>
  kinds: Record<ExampleKind, number>
  longestExample: number
  longestPath: number
}

/** Collects examples. */
export class ExampleEncoder {
  readonly #wide: boolean
  readonly #tokens = new GrowingInts()
  readonly #learned = new GrowingInts()
  readonly #segments = new GrowingInts()
  readonly #examples = new GrowingInts()
  readonly #kinds = { structured: 0, serial: 0, unstructured: 0 }
  #longestExample = 0
  #longestPath = 0

  constructor(vocabSize: number) {
    this.#wide = needsWideTokens(vocabSize)
  }

  /** `source`: number of the conversation in the input. */
  add({ kind, segments }: Example, source: number): void {
    this.#examples.append([this.#segments.length / 3, segments.length, EXAMPLE_KINDS.indexOf(kind), source])
    for (const { parent, ids, learned } of segments) {
      this.#segments.append([this.#tokens.length, ids.length, parent === -1 ? NO_PARENT : parent])
      const flags = new Uint8Array(ids.length)
      for (let run = 0; run < learned.length; run += 2) flags.fill(1, learned[run], learned[run + 1])
      this.#tokens.append(ids)
      this.#learned.append(flags)
    }
    this.#kinds[kind] += 1
    this.#longestExample = Math.max(this.#longestExample, tokenCount(segments))
    this.#longestPath = Math.max(this.#longestPath, longestPath(segments))
  }

  take(): EncodedSplit {
    const ids = this.#tokens.view()
    return {
      tokens: this.#wide ? ids.slice() : Uint16Array.from(ids),
      learned: Uint8Array.from(this.#learned.view()),
      segments: this.#segments.view().slice(),
      examples: this.#examples.view().slice(),
      kinds: this.#kinds,
      longestExample: this.#longestExample,
      longestPath: this.#longestPath,
    }
  }
}

export function needsWideTokens(vocabSize: number): boolean {
  return vocabSize > 2 ** 16
}

/** A list of uint32 that grows as needed. */
class GrowingInts {
  #values = new Uint32Array(1024)
  length = 0

  append(values: ArrayLike<number>): void {
    if (this.length + values.length > this.#values.length) {
      const larger = new Uint32Array(2 * (this.length + values.length))
      larger.set(this.view())
      this.#values = larger
    }
    this.#values.set(values, this.length)
    this.length += values.length
  }

  view(): Uint32Array<ArrayBuffer> {
    return this.#values.subarray(0, this.length)
  }
}
