import { badLine } from '../conversation.ts'

/** One JSON value of an input file, not parsed yet. */
export interface RawRecord {
  bytes: Buffer
  /** Of its first byte; the first line is 1. */
  line: number
}

/** Of one record: a limit against files that are no such data, and far more than any conversation. */
export const MAX_RECORD_BYTES = 64 << 20

const SPACE = 0x20
const [TAB, LF, CR, QUOTE, COMMA, BACKSLASH] = [0x09, 0x0a, 0x0d, 0x22, 0x2c, 0x5c]
const [OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT] = [0x5b, 0x5d, 0x7b, 0x7d]

/**
 * Splits a file into its records: the elements of a JSON array when the first character is `[`, else its lines. Memory
 * is bounded by the longest record.
 * @throws AparError with file and line.
 */
export async function* splitRecords(chunks: AsyncIterable<Buffer>, file: string): AsyncGenerator<RawRecord> {
  let splitter: Splitter | undefined
  let line = 1
  for await (const chunk of chunks) {
    let bytes = chunk
    if (!splitter) {
      const start = bytes.findIndex((byte) => !isSpace(byte))
      line += countLines(start === -1 ? bytes : bytes.subarray(0, start))
      if (start === -1) continue
      bytes = bytes.subarray(start)
      const isArray = bytes[0] === OPEN_ARRAY
      splitter = isArray ? new ArraySplitter(file, line) : new LineSplitter(file, line)
    }
    yield* splitter.push(bytes)
  }
  if (splitter) yield* splitter.end()
}

interface Splitter {
  push(chunk: Buffer): Iterable<RawRecord>
  end(): Iterable<RawRecord>
}

/** The bytes of a record that began in an earlier chunk. */
class Pending {
  readonly #file: string
  #chunks: Buffer[] = []
  #length = 0

  constructor(file: string) {
    this.#file = file
  }

  get length(): number {
    return this.#length
  }

  add(bytes: Buffer, line: number): void {
    this.#length += bytes.length
    if (this.#length > MAX_RECORD_BYTES)
      throw badLine(this.#file, line, `a record of more than ${MAX_RECORD_BYTES >> 20} MiB`)
    // A copy: the chunk would be kept for the sake of its last bytes.
    this.#chunks.push(Buffer.from(bytes))
  }

  /** With the last bytes of the record. */
  take(last: Buffer): Buffer {
    if (this.#length === 0) return last
    const bytes = Buffer.concat([...this.#chunks, last])
    this.#chunks = []
    this.#length = 0
    return bytes
  }
}

class LineSplitter implements Splitter {
  readonly #pending: Pending
  #line: number

  constructor(file: string, line: number) {
    this.#pending = new Pending(file)
    this.#line = line
  }

  *push(chunk: Buffer): Generator<RawRecord> {
    let start = 0
    for (let at = chunk.indexOf(LF); at !== -1; at = chunk.indexOf(LF, start)) {
      yield* this.#record(this.#pending.take(chunk.subarray(start, at)))
      this.#line += 1
      start = at + 1
    }
    if (start < chunk.length) this.#pending.add(chunk.subarray(start), this.#line)
  }

  end(): Iterable<RawRecord> {
    return this.#record(this.#pending.take(Buffer.alloc(0)))
  }

  *#record(bytes: Buffer): Generator<RawRecord> {
    if (!bytes.every(isSpace)) yield { bytes, line: this.#line }
  }
}

/**
 * The elements of an array. Only what separates them is looked at: brackets outside of strings; the parser of each
 * element finds whatever is wrong inside.
 */
class ArraySplitter implements Splitter {
  readonly #file: string
  readonly #pending: Pending
  #line: number
  /** -1: before the array, 0: between its elements, more: inside one. */
  #depth = -1
  #inString = false
  #escaped = false
  #startLine = 0
  #afterComma = false
  #elements = 0
  #closed = false

  constructor(file: string, line: number) {
    this.#file = file
    this.#line = line
    this.#pending = new Pending(file)
  }

  *push(chunk: Buffer): Generator<RawRecord> {
    let start = this.#depth > 0 ? 0 : -1
    for (let at = 0; at < chunk.length; at += 1) {
      const byte = chunk[at]
      if (this.#inString) {
        if (this.#escaped) this.#escaped = false
        else if (byte === BACKSLASH) this.#escaped = true
        else if (byte === QUOTE) this.#inString = false
        continue
      }
      if (byte === LF) this.#line += 1
      else if (this.#depth > 0) {
        if (byte === QUOTE) this.#inString = true
        else if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) this.#depth += 1
        else if (byte === CLOSE_OBJECT || byte === CLOSE_ARRAY) {
          this.#depth -= 1
          if (this.#depth > 0) continue
          yield { bytes: this.#pending.take(chunk.subarray(start, at + 1)), line: this.#startLine }
          this.#elements += 1
          start = -1
        }
      } else if (byte !== SPACE && byte !== CR && byte !== TAB) {
        if (this.#between(byte)) start = at
      }
    }
    if (start !== -1) this.#pending.add(chunk.subarray(start), this.#startLine)
  }

  end(): Iterable<RawRecord> {
    if (!this.#closed) throw badLine(this.#file, this.#line, 'the file ends inside its JSON array')
    return []
  }

  /** A character between elements; true when one begins with it. */
  #between(byte: number | undefined): boolean {
    if (this.#closed) throw badLine(this.#file, this.#line, 'more text behind the JSON array')
    if (this.#depth === -1) this.#depth = 0
    else if (byte === CLOSE_ARRAY && !this.#afterComma) this.#closed = true
    else if (byte === COMMA && this.#elements > 0 && !this.#afterComma) this.#afterComma = true
    else if (byte === OPEN_OBJECT && this.#afterComma === this.#elements > 0) {
      this.#afterComma = false
      this.#depth = 1
      this.#startLine = this.#line
      return true
    } else throw badLine(this.#file, this.#line, 'not valid JSON: expected an array of objects')
    return false
  }
}

function isSpace(byte: number): boolean {
  return byte === SPACE || byte === LF || byte === CR || byte === TAB
}

function countLines(bytes: Buffer): number {
  let lines = 0
  for (const byte of bytes) if (byte === LF) lines += 1
  return lines
}
