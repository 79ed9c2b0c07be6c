import type { TokenizerFiles } from '../checkpoint/tokenizer-files.ts'
import { StartupError } from '../startup-error.ts'

/** The bytes that each token adds to the text. Index = token id; undefined for special and unused ids. */
export type TokenBytes = readonly (Uint8Array | undefined)[]

const encoder = new TextEncoder()
const BYTE_PIECE = /^<0x([0-9A-Fa-f]{2})>$/

/**
 * The bytes of every token, for the two supported decoders: byte-level BPE, where each character of a piece
 * stands for a byte, and SentencePiece, whose pieces are text with ▁ for a space and <0x..> for a single byte.
 * @throws StartupError `unsupported_checkpoint` for any other decoder.
 */
export function tokenBytes({ tokenizer, file }: Pick<TokenizerFiles, 'tokenizer' | 'file'>): TokenBytes {
  const style = decoderStyle(tokenizer.decoder, file)
  const spaced = (piece: string) => encoder.encode(piece.replaceAll('▁', ' '))
  const alphabet = byteLevelAlphabet()
  const bytes: (Uint8Array | undefined)[] = []
  for (const [piece, id] of Object.entries(tokenizer.model.vocab)) {
    bytes[id] = style === 'byte-level' ? pieceBytes(piece, alphabet) : (singleByte(piece) ?? spaced(piece))
  }
  for (const { id, content, special } of tokenizer.added_tokens) {
    if (special) bytes[id] = undefined
    else bytes[id] = style === 'byte-level' ? encoder.encode(content) : spaced(content)
  }
  return bytes
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

/** GPT-2's byte-to-unicode table: printable bytes map to themselves, the others to code points from 256 on. */
function byteLevelAlphabet(): Map<string, number> {
  const alphabet = new Map<string, number>()
  let next = 256
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174
    alphabet.set(String.fromCodePoint(printable ? byte : next++), byte)
  }
  return alphabet
}

/** A piece with a character outside the alphabet is plain text. */
function pieceBytes(piece: string, alphabet: Map<string, number>): Uint8Array {
  const bytes: number[] = []
  for (const character of piece) {
    const byte = alphabet.get(character)
    if (byte === undefined) return encoder.encode(piece)
    bytes.push(byte)
  }
  return Uint8Array.from(bytes)
}
