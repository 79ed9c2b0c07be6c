import { join } from 'node:path'
import type { ExampleKind } from '../encode/tree.ts'
import type { ModelText } from '../model/model-text.ts'
import type { OutputFiles } from '../pipeline/output-files.ts'
import { type EncodedSplit, needsWideTokens } from './encoded.ts'

/**
 * A folder of shards (docs/adr/0041), all numbers little-endian. An example is a conversation as a tree of segments, a
 * segment is a run of tokens between forks. Parents come before children, and each token is learned at most once.
 *
 *   meta.json      ShardMeta
 *   NAME.tokens    uint16 or uint32: ids of all segments, one after the other
 *   NAME.learned   uint8 per token: 1 in the loss
 *   NAME.segments  uint32 x 3: offset of its first token in NAME.tokens, length, parent (index within the example;
 *                  0xFFFFFFFF: none)
 *   NAME.examples  uint32 x 4: first segment, segments, kind (0 structured, 1 serial: [Fork] is banned in the loss,
 *                  2 unstructured), source (number of the conversation in the input)
 */
export interface ShardMeta {
  format: 'apar-shards'
  version: 2
  tokens: 'uint16' | 'uint32'
  vocab_size: number
  bos: number | null
  eos: number[]
  fork: number
  child: number
  examples: number
  longest_example: number
  longest_path: number
  kinds: Record<ExampleKind, number>
  shards: { name: string; examples: number; segments: number; tokens: number }[]
}

/** Tokens after which a new shard begins. */
const SHARD_TOKENS = 2 ** 24

/** Appends examples to a folder of shards. Its whole state is `meta`, so that it can go on from a stored one. */
export class ShardWriter {
  readonly meta: ShardMeta
  readonly #folder: string
  readonly #files: OutputFiles
  readonly #shardTokens: number

  /** `folder`: within the output. `shardTokens`: for tests. */
  constructor(files: OutputFiles, folder: string, meta: ShardMeta, shardTokens = SHARD_TOKENS) {
    this.#files = files
    this.#folder = folder
    this.meta = meta
    this.#shardTokens = shardTokens
  }

  async add(encoded: EncodedSplit): Promise<void> {
    const examples = encoded.examples.length / 4
    if (examples === 0) return
    const { meta } = this
    let shard = meta.shards.at(-1)
    if (!shard || shard.tokens >= this.#shardTokens) {
      const name = String(meta.shards.length).padStart(5, '0')
      shard = { name, examples: 0, segments: 0, tokens: 0 }
      meta.shards.push(shard)
    }
    const write = (ending: string, values: EncodedSplit['tokens' | 'learned']) =>
      this.#files.append(
        join(this.#folder, `${shard.name}.${ending}`),
        new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
      )
    const segments = moved(encoded.segments, 3, shard.tokens)
    const index = moved(encoded.examples, 4, shard.segments)
    await write('tokens', encoded.tokens)
    await write('learned', encoded.learned)
    await write('segments', segments)
    await write('examples', index)
    shard.examples += examples
    shard.segments += segments.length / 3
    shard.tokens += encoded.tokens.length
    meta.examples += examples
    for (const [kind, count] of Object.entries(encoded.kinds)) meta.kinds[kind as ExampleKind] += count
    meta.longest_example = Math.max(meta.longest_example, encoded.longestExample)
    meta.longest_path = Math.max(meta.longest_path, encoded.longestPath)
  }

  async close(): Promise<void> {
    const text = `${JSON.stringify(this.meta, null, 2)}\n`
    await this.#files.append(join(this.#folder, 'meta.json'), Buffer.from(text))
  }
}

/** Adds `by` to the first field of every record. */
function moved(records: Uint32Array<ArrayBuffer>, fields: number, by: number): Uint32Array<ArrayBuffer> {
  for (let at = 0; at < records.length; at += fields) records[at] = (records[at] ?? 0) + by
  return records
}

export function emptyMeta({ vocabSize, bos, eos, fork, child }: ModelText): ShardMeta {
  return {
    format: 'apar-shards',
    version: 2,
    tokens: needsWideTokens(vocabSize) ? 'uint32' : 'uint16',
    vocab_size: vocabSize,
    bos: bos ?? null,
    eos,
    fork: fork.id,
    child: child.id,
    examples: 0,
    longest_example: 0,
    longest_path: 0,
    kinds: { structured: 0, serial: 0, unstructured: 0 },
    shards: [],
  }
}
