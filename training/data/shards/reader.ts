import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { AparError } from '../../../shared/errors.ts'
import { EXAMPLE_KINDS, type ExampleKind } from '../encode/tree.ts'
import { NO_PARENT } from './encoded.ts'
import { parseMeta } from './read-meta.ts'
import { WindowedFile } from './windowed-file.ts'
import type { ShardMeta } from './writer.ts'

/** An example as NAME.examples has it. */
export interface ExampleHead {
  /** Its number in the whole folder. */
  readonly number: number
  readonly kind: ExampleKind
  /** Number of the conversation that it was made from. */
  readonly source: number
}

export interface ShardSegment {
  /** Index within the example; only the first segment has none. */
  readonly parent: number | undefined
  readonly tokens: Uint16Array | Uint32Array
  /** One per token: 1 = in the loss. */
  readonly learned: Uint8Array
}

export interface ShardExample extends ExampleHead {
  /** Parents come before children. */
  readonly segments: readonly ShardSegment[]
}

const EXAMPLE_BYTES = 16
const SEGMENT_BYTES = 12

/**
 * A folder of shards (writer.ts). Examples are read one at a time, from where they lie; no more is allocated than the
 * files hold.
 */
export class ShardReader {
  readonly meta: ShardMeta
  readonly #shards: readonly Shard[]

  private constructor(meta: ShardMeta, shards: readonly Shard[]) {
    this.meta = meta
    this.#shards = shards
  }

  /** @throws AparError `invalid_request`, naming the file, when there are no such shards or their sizes do not fit. */
  static async open(folder: string): Promise<ShardReader> {
    const file = join(folder, 'meta.json')
    const text = await readFile(file, 'utf8').catch((error: Error) =>
      refuse(file, `cannot be read: ${error.message}`),
    )
    const meta = parseMeta(file, text)
    const shards: Shard[] = []
    try {
      let first = 0
      for (const entry of meta.shards) {
        shards.push(await Shard.open(join(folder, entry.name), entry, meta, first))
        first += entry.examples
      }
      if (first !== meta.examples) refuse(file, `examples is ${meta.examples}, but its shards have ${first}`)
    } catch (error) {
      for (const shard of shards) await shard.close()
      throw error
    }
    return new ShardReader(meta, shards)
  }

  /** @throws AparError when there is no such example, or it refers to what is not there. */
  async example(number: number): Promise<ShardExample> {
    const shard = this.#shards.find(({ first, examples }) => number >= first && number < first + examples)
    if (shard) return shard.example(number)
    const range = this.meta.examples === 0 ? 'there are none' : `they are 0 to ${this.meta.examples - 1}`
    throw new AparError('invalid_request', `there is no example ${number}: ${range}`)
  }

  /** All examples in order. */
  async *examples(): AsyncGenerator<ShardExample> {
    for (const { number } of this.#numbers()) yield this.example(number)
  }

  /** What NAME.examples says of all examples, in order; their tokens are not read. */
  async *heads(): AsyncGenerator<ExampleHead> {
    for (const { shard, number } of this.#numbers()) yield (await shard.head(number)).head
  }

  async close(): Promise<void> {
    for (const shard of this.#shards) await shard.close()
  }

  *#numbers(): Generator<{ shard: Shard; number: number }> {
    for (const shard of this.#shards) {
      for (let number = shard.first; number < shard.first + shard.examples; number++) yield { shard, number }
    }
  }
}

type ShardFiles = Record<'tokens' | 'learned' | 'segments' | 'examples', WindowedFile>
type ShardEntry = ShardMeta['shards'][number]

class Shard {
  /** Number of its first example in the whole folder. */
  readonly first: number
  readonly examples: number
  readonly #entry: ShardEntry
  readonly #meta: ShardMeta
  readonly #files: ShardFiles

  private constructor(entry: ShardEntry, meta: ShardMeta, first: number, files: ShardFiles) {
    this.first = first
    this.examples = entry.examples
    this.#entry = entry
    this.#meta = meta
    this.#files = files
  }

  /** @param path of the shard's files, without their endings. */
  static async open(path: string, entry: ShardEntry, meta: ShardMeta, first: number): Promise<Shard> {
    const opened: WindowedFile[] = []
    const file = async (ending: keyof ShardFiles, size: number) => {
      const window = await WindowedFile.open(`${path}.${ending}`, size)
      opened.push(window)
      return window
    }
    try {
      return new Shard(entry, meta, first, {
        tokens: await file('tokens', entry.tokens * tokenBytes(meta)),
        learned: await file('learned', entry.tokens),
        segments: await file('segments', entry.segments * SEGMENT_BYTES),
        examples: await file('examples', entry.examples * EXAMPLE_BYTES),
      })
    } catch (error) {
      for (const window of opened) await window.close()
      throw error
    }
  }

  async head(number: number): Promise<{ head: ExampleHead; firstSegment: number; segments: number }> {
    const { examples: file } = this.#files
    const bytes = await file.read((number - this.first) * EXAMPLE_BYTES, EXAMPLE_BYTES)
    const [firstSegment = 0, segments = 0, kindNumber = 0, source = 0] = numbersOf(bytes)
    const kind = EXAMPLE_KINDS[kindNumber]
    if (!kind) refuse(file.path, `example ${number}: there is no kind ${kindNumber}`)
    if (segments < 1 || firstSegment + segments > this.#entry.segments) {
      const range = `segments ${firstSegment} to ${firstSegment + segments}`
      refuse(file.path, `example ${number}: ${range} of ${this.#entry.segments}`)
    }
    if (kind !== 'structured' && segments !== 1) {
      refuse(file.path, `example ${number}: ${kind}, but of ${segments} segments`)
    }
    return { head: { number, kind, source }, firstSegment, segments }
  }

  async example(number: number): Promise<ShardExample> {
    const { head, firstSegment, segments: count } = await this.head(number)
    const { segments: file } = this.#files
    const table = numbersOf(await file.read(firstSegment * SEGMENT_BYTES, count * SEGMENT_BYTES))
    const segments: ShardSegment[] = []
    for (let index = 0; index < count; index++) {
      const [offset = 0, length = 0, parent = 0] = table.subarray(index * 3, index * 3 + 3)
      const where = `example ${number}, segment ${index}`
      if (length < 1 || offset + length > this.#entry.tokens) {
        refuse(file.path, `${where}: tokens ${offset} to ${offset + length} of ${this.#entry.tokens}`)
      }
      if (index === 0 ? parent !== NO_PARENT : parent >= index) {
        refuse(file.path, `${where}: its parent is ${parent === NO_PARENT ? 'none' : parent}`)
      }
      const tokens = await this.#tokens(offset, length, where)
      const learned = await this.#learned(offset, length, where)
      segments.push({ parent: index === 0 ? undefined : parent, tokens, learned })
    }
    return { ...head, segments }
  }

  async #tokens(offset: number, length: number, where: string): Promise<Uint16Array | Uint32Array> {
    const { tokens: file } = this.#files
    const size = tokenBytes(this.#meta)
    const bytes = await file.read(offset * size, length * size)
    const tokens = size === 2 ? new Uint16Array(aligned(bytes)) : numbersOf(bytes)
    const wrong = tokens.find((id) => id >= this.#meta.vocab_size)
    if (wrong !== undefined) {
      refuse(file.path, `${where}: token ${wrong} of a vocabulary of ${this.#meta.vocab_size}`)
    }
    return tokens
  }

  async #learned(offset: number, length: number, where: string): Promise<Uint8Array> {
    const { learned: file } = this.#files
    const learned = new Uint8Array(aligned(await file.read(offset, length)))
    const wrong = learned.find((flag) => flag > 1)
    if (wrong !== undefined) refuse(file.path, `${where}: ${wrong} is neither 0 nor 1`)
    return learned
  }

  async close(): Promise<void> {
    for (const file of Object.values(this.#files)) await file.close()
  }
}

function tokenBytes(meta: ShardMeta): number {
  return meta.tokens === 'uint16' ? 2 : 4
}

/** A copy: views of numbers need an address that their size divides. Node runs on little-endian machines only. */
function aligned(bytes: Uint8Array): ArrayBuffer {
  return new Uint8Array(bytes).buffer
}

function numbersOf(bytes: Uint8Array): Uint32Array {
  return new Uint32Array(aligned(bytes))
}

function refuse(file: string, reason: string): never {
  throw new AparError('invalid_request', `${file}: ${reason}`)
}
