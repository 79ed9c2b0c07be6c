import type { TokenizerFile } from '../checkpoint/tokenizer/tokenizer-file.ts'
import type { TokenizerFiles } from '../checkpoint/tokenizer-files.ts'
import { StartupError } from '../startup-error.ts'
import { piecesOf } from './pieces.ts'

type Tokens = Pick<TokenizerFiles, 'tokenizer' | 'file'>

/** Writes the bytes of a piece to `to` from `at` on, which has room for all of them; returns how many. */
type WritePiece = (piece: string, to: Buffer, at: number) => number

/** Far more than any vocabulary has: a larger id in a file would only fill the memory. */
const MAX_TOKENS = 1 << 22
/** Bytes of a UTF-16 code unit, at most. */
const BYTES_PER_UNIT = 3
const BYTE_PIECE = /^<0x([0-9A-Fa-f]{2})>$/

/** The bytes that each token adds to the text, in one array: an array for each of 100,000 tokens would be slow to make. */
export class TokenBytes {
  readonly #bytes: Uint8Array<ArrayBuffer>
  /** Where those of each token begin, and where the last ones end. */
  readonly #offsets: Int32Array<ArrayBuffer>
  readonly #replaced: ReadonlyMap<number, Uint8Array>

  constructor(
    bytes: Uint8Array<ArrayBuffer>,
    offsets: Int32Array<ArrayBuffer>,
    replaced: ReadonlyMap<number, Uint8Array> = new Map(),
  ) {
    this.#bytes = bytes
    this.#offsets = offsets
    this.#replaced = replaced
  }

  /** Undefined for a token that adds nothing: a special one, or an id without a token. */
  of(token: number): Uint8Array | undefined {
    const replaced = this.#replaced.get(token)
    if (replaced) return replaced
    const begin = this.#offsets[token] ?? 0
    const end = this.#offsets[token + 1] ?? 0
    return begin < end ? this.#bytes.subarray(begin, end) : undefined
  }

  /** How many {@link of} has. */
  lengthOf(token: number): number {
    const replaced = this.#replaced.get(token)
    if (replaced) return replaced.length
    return Math.max(0, (this.#offsets[token + 1] ?? 0) - (this.#offsets[token] ?? 0))
  }

  /** These, with other bytes for some tokens. */
  with(replaced: ReadonlyMap<number, Uint8Array>): TokenBytes {
    if (replaced.size === 0) return this
    return new TokenBytes(this.#bytes, this.#offsets, new Map([...this.#replaced, ...replaced]))
  }

  /** Those of the first `count` tokens in one array; those of token i lie from `offsets[i]` to `offsets[i + 1]`. */
  flat(count: number): { bytes: Uint8Array<ArrayBuffer>; offsets: Int32Array<ArrayBuffer> } {
    const offsets = new Int32Array(count + 1)
    for (let id = 0; id < count; id++) offsets[id + 1] = (offsets[id] ?? 0) + this.lengthOf(id)
    if (this.#replaced.size === 0) return { bytes: this.#bytes.slice(0, offsets[count]), offsets }
    const bytes = new Uint8Array(offsets[count] ?? 0)
    for (let id = 0; id < count; id++) bytes.set(this.of(id) ?? [], offsets[id])
    return { bytes, offsets }
  }
}

/**
 * The bytes of every token, for the two supported decoders: byte-level BPE, where each character of a piece
 * stands for a byte, and SentencePiece, whose pieces are text with ▁ for a space and <0x..> for a single byte.
 * @throws StartupError `unsupported_checkpoint` for any other decoder.
 */
export function tokenBytes({ tokenizer, file }: Tokens): TokenBytes {
  const { writePiece, writeAdded } = decoderOf(tokenizer, file)
  const { vocab } = tokenizer.model
  const texts: (string | undefined)[] = []
  for (const piece of piecesOf(vocab)) texts[vocab[piece] ?? 0] = piece
  const added = new Map(tokenizer.added_tokens.map((token) => [token.id, token]))
  for (const { id, content } of added.values()) texts[id] = content
  texts.length = Math.min(texts.length, MAX_TOKENS)
  const most = texts.reduce((sum: number, text) => sum + (text?.length ?? 0) * BYTES_PER_UNIT, 0)
  const all = Buffer.allocUnsafe(most)
  const offsets = new Int32Array(texts.length + 1)
  let end = 0
  // Not entries() of a sparse array: an id without a token has its place, too.
  for (let id = 0; id < texts.length; id++) {
    const text = texts[id]
    const token = added.get(id)
    if (text !== undefined && !token?.special) end += (token ? writeAdded : writePiece)(text, all, end)
    offsets[id + 1] = end
  }
  return new TokenBytes(Uint8Array.from(all.subarray(0, end)), offsets)
}

/** Those of one token, as {@link tokenBytes} has them. */
export function bytesOfToken({ tokenizer, file }: Tokens, id: number): Uint8Array | undefined {
  const { writePiece, writeAdded } = decoderOf(tokenizer, file)
  const added = tokenizer.added_tokens.findLast((token) => token.id === id)
  if (added) return added.special ? undefined : written(writeAdded, added.content)
  const { vocab } = tokenizer.model
  const piece = piecesOf(vocab).findLast((each) => vocab[each] === id)
  return piece === undefined ? undefined : written(writePiece, piece)
}

function written(write: WritePiece, text: string): Uint8Array {
  const buffer = Buffer.alloc(text.length * BYTES_PER_UNIT)
  return buffer.subarray(0, write(text, buffer, 0))
}

function decoderOf(
  { decoder }: TokenizerFile,
  file: string,
): Record<'writePiece' | 'writeAdded', WritePiece> {
  const style = decoderStyle(decoder, file)
  if (style === 'byte-level') return { writePiece: writeByteLevel(), writeAdded: writeText }
  const spaced: WritePiece = (piece, to, at) => writeText(piece.replaceAll('▁', ' '), to, at)
  return {
    writePiece: (piece, to, at) => {
      const hex = BYTE_PIECE.exec(piece)?.[1]
      if (hex === undefined) return spaced(piece, to, at)
      to[at] = Number.parseInt(hex, 16)
      return 1
    },
    writeAdded: spaced,
  }
}

const writeText: WritePiece = (piece, to, at) => to.write(piece, at, 'utf8')

function decoderStyle(decoder: unknown, file: string): 'byte-level' | 'sentencepiece' {
  const types = decoderTypes(decoder)
  if (types.includes('ByteLevel')) return 'byte-level'
  if (types.includes('Metaspace') || types.includes('ByteFallback')) return 'sentencepiece'
  const found = types.join(', ') || 'none'
  throw new StartupError('unsupported_checkpoint', `${file}: decoder: ${found} is not supported`)
}

function decoderTypes(decoder: unknown): string[] {
  if (typeof decoder !== 'object' || decoder === null) return []
  const own = 'type' in decoder && typeof decoder.type === 'string' ? [decoder.type] : []
  const inner = 'decoders' in decoder && Array.isArray(decoder.decoders) ? decoder.decoders : []
  return [...own, ...inner.flatMap(decoderTypes)]
}

/**
 * A byte-level piece by GPT-2's table: printable bytes are themselves, the others code points from 256 on. A piece with a
 * character outside of it is plain text.
 */
function writeByteLevel(): WritePiece {
  const byteOf = new Int16Array(512).fill(-1)
  let next = 256
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174
    byteOf[printable ? byte : next++] = byte
  }
  return (piece, to, at) => {
    for (let unit = 0; unit < piece.length; unit++) {
      const byte = byteOf[piece.charCodeAt(unit)] ?? -1
      if (byte < 0) return writeText(piece, to, at)
      to[at + unit] = byte
    }
    return piece.length
  }
}

/** With the texts of tokens that are markers, as their ids by text. */
export function withMarkers(bytes: TokenBytes, tokens: Readonly<Record<string, number>> = {}): TokenBytes {
  return bytes.with(new Map(Object.entries(tokens).map(([text, id]) => [id, Buffer.from(text)])))
}
