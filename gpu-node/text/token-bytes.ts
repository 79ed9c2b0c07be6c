import type { TokenizerFile } from '../checkpoint/tokenizer/tokenizer-file.ts'
import type { TokenizerFiles } from '../checkpoint/tokenizer-files.ts'
import { StartupError } from '../startup-error.ts'
import type { ModelTools } from '../tools/tool-format.ts'

/** The bytes that each token adds to the text. Index = token id; undefined for special and unused ids. */
export type TokenBytes = readonly (Uint8Array | undefined)[]

type Tokens = Pick<TokenizerFiles, 'tokenizer' | 'file'>

const encoder = new TextEncoder()
const BYTE_PIECE = /^<0x([0-9A-Fa-f]{2})>$/

/**
 * The bytes of every token, for the two supported decoders: byte-level BPE, where each character of a piece
 * stands for a byte, and SentencePiece, whose pieces are text with ▁ for a space and <0x..> for a single byte.
 * @throws StartupError `unsupported_checkpoint` for any other decoder.
 */
export function tokenBytes({ tokenizer, file }: Tokens): TokenBytes {
  const { ofPiece, ofAdded } = decoderOf(tokenizer, file)
  const bytes: (Uint8Array | undefined)[] = []
  const { vocab } = tokenizer.model
  // Not entries(): a vocabulary has up to 250,000 pieces, and a node starts with this.
  for (const piece in vocab) bytes[vocab[piece] ?? 0] = ofPiece(piece)
  for (const { id, content, special } of tokenizer.added_tokens)
    bytes[id] = special ? undefined : ofAdded(content)
  return bytes
}

/** Those of one token, as {@link tokenBytes} has them. */
export function bytesOfToken({ tokenizer, file }: Tokens, id: number): Uint8Array | undefined {
  const { ofPiece, ofAdded } = decoderOf(tokenizer, file)
  const added = tokenizer.added_tokens.findLast((token) => token.id === id)
  if (added) return added.special ? undefined : ofAdded(added.content)
  const { vocab } = tokenizer.model
  let bytes: Uint8Array | undefined
  for (const piece in vocab) if (vocab[piece] === id) bytes = ofPiece(piece)
  return bytes
}

function decoderOf({ decoder }: TokenizerFile, file: string) {
  const style = decoderStyle(decoder, file)
  if (style === 'byte-level') {
    return { ofPiece: byteLevelDecoder(), ofAdded: (content: string) => encoder.encode(content) }
  }
  const spaced = (piece: string) => encoder.encode(piece.replaceAll('▁', ' '))
  return { ofPiece: (piece: string) => singleByte(piece) ?? spaced(piece), ofAdded: spaced }
}

/** All bytes in one array, and where those of each of the first `count` tokens begin. */
export function flatBytes(
  pieces: TokenBytes,
  count: number,
): { bytes: Uint8Array<ArrayBuffer>; offsets: Int32Array<ArrayBuffer> } {
  const offsets = new Int32Array(count + 1)
  for (let id = 0; id < count; id++) offsets[id + 1] = (offsets[id] ?? 0) + (pieces[id]?.length ?? 0)
  const bytes = new Uint8Array(offsets[count] ?? 0)
  for (let id = 0; id < count; id++) bytes.set(pieces[id] ?? [], offsets[id])
  return { bytes, offsets }
}

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

function singleByte(piece: string): Uint8Array | undefined {
  const hex = BYTE_PIECE.exec(piece)?.[1]
  return hex === undefined ? undefined : Uint8Array.of(Number.parseInt(hex, 16))
}

/**
 * The bytes of a byte-level piece by GPT-2's table: printable bytes are themselves, the others code points from 256 on. A
 * piece with a character outside of it is plain text.
 */
function byteLevelDecoder(): (piece: string) => Uint8Array {
  const byteOf = new Int16Array(512).fill(-1)
  let next = 256
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174
    byteOf[printable ? byte : next++] = byte
  }
  return (piece) => {
    const bytes = new Uint8Array(piece.length)
    for (let at = 0; at < piece.length; at++) {
      const byte = byteOf[piece.charCodeAt(at)] ?? -1
      if (byte < 0) return encoder.encode(piece)
      bytes[at] = byte
    }
    return bytes
  }
}

/** The bytes of tokens in an answer that may call tools. */
export function withMarkers(bytes: TokenBytes, { tokens }: ModelTools): TokenBytes {
  const markers = Object.entries(tokens)
  if (markers.length === 0) return bytes
  const all = [...bytes]
  for (const [text, id] of markers) all[id] = encoder.encode(text)
  return all
}
