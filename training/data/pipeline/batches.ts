import { AparError } from '../../../shared/errors.ts'
import { badLine, isRecord } from '../conversation.ts'
import { FAULTS, type Fault, idOf } from '../input/conversations.ts'
import { readJsonValues } from '../input/json-values.ts'
import type { Batch, RecordPlace } from './batch.ts'
import { increment } from './counts.ts'

/** Bytes of records that are processed together. */
const BATCH_BYTES = 1 << 19

/** A part of the input, for builds that share it: every `count`-th record, from number `index` (from 0) on. */
export interface InputShard {
  index: number
  count: number
}

/** An input file, and what messages and outputs call it. */
export interface InputFile {
  path: string
  name: string
}

export interface BatchOptions {
  files: readonly InputFile[]
  shard: InputShard
  /** Number of the first record that is wanted: those before it were processed by a build that was cut. */
  from: number
  /** Faults of whole files are errors. */
  strict: boolean
}

/** A batch and how far into the input it reaches. */
export interface NumberedBatch extends Batch {
  /** Number of the record behind its last one. */
  next: number
}

/**
 * The records of all files in batches of the same size whatever the machine. Ids are looked at here, because whether one
 * was seen before depends on the whole input.
 */
export class BatchReader {
  readonly #options: BatchOptions
  readonly #ids = new Set<string>()
  readonly faults: Partial<Record<Fault, number>> = {}
  /** Records read so far, those of other shards too. */
  records = 0
  #batch: { chunks: Buffer[]; records: RecordPlace[]; bytes: number } = { chunks: [], records: [], bytes: 0 }

  constructor(options: BatchOptions) {
    this.#options = options
  }

  /** @throws AparError with file and line for what is not JSON. */
  async *read(): AsyncGenerator<NumberedBatch> {
    for (const { path, name: file } of this.#options.files) {
      const before = this.records
      const onBom = () => this.#fileFault(file, 'byte_order_mark')
      for await (const { value, line, defaultId, bytes, isUtf8 } of readJsonValues(path, {
        name: file,
        onBom,
      })) {
        const fail = (reason: string): never => {
          throw badLine(file, line, reason)
        }
        const id = (isRecord(value) ? idOf(value, fail) : undefined) ?? defaultId
        const isNew = !this.#ids.has(id)
        this.#ids.add(id)
        const fault = isUtf8 ? (isNew ? undefined : 'duplicate_id') : 'invalid_utf8'
        this.#add(file, line, id, fault, bytes)
        if (this.#batch.bytes >= BATCH_BYTES) yield this.#take()
      }
      if (this.records === before) this.#fileFault(file, 'empty_file')
    }
    if (this.#batch.records.length > 0) yield this.#take()
  }

  #add(file: string, line: number, id: string, fault: RecordPlace['fault'], bytes: Buffer): void {
    const { shard, from } = this.#options
    const source = this.records
    this.records += 1
    if (source < from || source % shard.count !== shard.index) return
    const place = { source, file, line, id, fault, offset: this.#batch.bytes, length: bytes.length }
    this.#batch.records.push(place)
    this.#batch.chunks.push(bytes)
    this.#batch.bytes += bytes.length
  }

  #take(): NumberedBatch {
    const { chunks, records, bytes } = this.#batch
    this.#batch = { chunks: [], records: [], bytes: 0 }
    const joined = new Uint8Array(bytes)
    let at = 0
    for (const chunk of chunks) {
      joined.set(chunk, at)
      at += chunk.length
    }
    return { bytes: joined, records, next: this.records }
  }

  #fileFault(file: string, fault: Fault): void {
    if (this.#options.strict) throw new AparError('invalid_request', `${file}: ${FAULTS[fault]}`)
    increment(this.faults, fault)
  }
}
