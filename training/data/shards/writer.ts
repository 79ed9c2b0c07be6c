import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Sequence } from './sequence.ts'

/**
 * A folder of shards, all numbers little-endian:
 *
 *   meta.json     {format: "apar-shards", version: 1, tokens: "uint16" | "uint32", vocab_size, bos, eos, fork, child,
 *                  rows, longest_row, shards: [{name, rows, tokens}]}
 *   NAME.tokens   token ids of all rows, one after the other
 *   NAME.labels   int32, one per token: the token's id, or -100 outside the loss
 *   NAME.rows     uint32 x 3 per row: offset (tokens), length (tokens), conversation number
 *
 * Rows of a conversation are adjacent in one shard and share its number, so that a trainer can merge their prefixes.
 */
export interface ShardMeta {
  format: 'apar-shards'
  version: 1
  tokens: 'uint16' | 'uint32'
  vocab_size: number
  bos: number
  eos: number
  fork: number
  child: number
  rows: number
  longest_row: number
  shards: { name: string; rows: number; tokens: number }[]
}

export interface ShardOptions {
  folder: string
  vocabSize: number
  special: { bos: number; eos: number; fork: number; child: number }
  /** A shard is closed when it has at least this many tokens; default 2^24. */
  maxTokens?: number
}

export class ShardWriter {
  readonly #options: ShardOptions
  readonly #meta: ShardMeta
  #tokens: number[] = []
  #labels: number[] = []
  #rows: number[] = []
  #conversation = 0

  private constructor(options: ShardOptions) {
    this.#options = options
    this.#meta = {
      format: 'apar-shards',
      version: 1,
      tokens: options.vocabSize <= 2 ** 16 ? 'uint16' : 'uint32',
      vocab_size: options.vocabSize,
      ...options.special,
      rows: 0,
      longest_row: 0,
      shards: [],
    }
  }

  /** Deletes the folder first, so that no shards of an earlier build remain. */
  static async open(options: ShardOptions): Promise<ShardWriter> {
    await rm(options.folder, { recursive: true, force: true })
    await mkdir(options.folder, { recursive: true })
    return new ShardWriter(options)
  }

  /** Adds the rows of one conversation. */
  async add(sequences: readonly Sequence[]): Promise<void> {
    for (const { ids, labels } of sequences) {
      this.#rows.push(this.#tokens.length, ids.length, this.#conversation)
      for (const id of ids) this.#tokens.push(id)
      for (const label of labels) this.#labels.push(label)
      this.#meta.longest_row = Math.max(this.#meta.longest_row, ids.length)
      this.#meta.rows += 1
    }
    this.#conversation += 1
    if (this.#tokens.length >= (this.#options.maxTokens ?? 2 ** 24)) await this.#flush()
  }

  async close(): Promise<ShardMeta> {
    if (this.#rows.length > 0) await this.#flush()
    await writeFile(join(this.#options.folder, 'meta.json'), `${JSON.stringify(this.#meta, null, 2)}\n`)
    return this.#meta
  }

  async #flush(): Promise<void> {
    const name = String(this.#meta.shards.length).padStart(5, '0')
    const file = (ending: string) => join(this.#options.folder, `${name}.${ending}`)
    const tokens =
      this.#meta.tokens === 'uint16' ? Uint16Array.from(this.#tokens) : Uint32Array.from(this.#tokens)
    await writeFile(file('tokens'), tokens)
    await writeFile(file('labels'), Int32Array.from(this.#labels))
    await writeFile(file('rows'), Uint32Array.from(this.#rows))
    this.#meta.shards.push({ name, rows: this.#rows.length / 3, tokens: this.#tokens.length })
    this.#tokens = []
    this.#labels = []
    this.#rows = []
  }
}
