import { broken, unsupported } from '../refusals.ts'
import { withRegularFile } from '../regular-file.ts'
import { protobufFields } from './protobuf.ts'

/** `ModelProto.SentencePiece.Type` of sentencepiece_model.proto (google/sentencepiece). */
export const PIECE = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const

export interface Piece {
  text: string
  score: number
  /** One of {@link PIECE}. */
  type: number
}

export interface SentencePieceFile {
  /** By id. */
  readonly pieces: readonly Piece[]
  /** Ids, or -1. */
  readonly unknownId: number
  readonly bosId: number
  readonly eosId: number
  readonly byteFallback: boolean
  readonly addsPrefix: boolean
  readonly collapsesSpaces: boolean
}

/** Four times the largest tokenizer.model in use. */
const MAX_BYTES = 64 << 20
const MAX_PIECES = 4 << 20
const MODEL_TYPES = ['none', 'Unigram', 'BPE', 'Word', 'Char']
const BPE = 2

/** A byte order mark may be a piece like any other. */
const utf8 = new TextDecoder('utf-8', { ignoreBOM: true })

/** Field numbers of sentencepiece_model.proto. */
const MODEL = { pieces: 1, trainer: 2, normalizer: 3, denormalizer: 5 } as const
const PIECE_FIELD = { text: 1, score: 2, type: 3 } as const
const TRAINER = {
  modelType: 3,
  spaceAsSuffix: 24,
  byteFallback: 35,
  unkId: 40,
  bosId: 41,
  eosId: 42,
} as const
const NORMALIZER = { charsmap: 2, addDummyPrefix: 3, removeExtraSpaces: 4, escapeSpaces: 5 } as const

/**
 * Reads SentencePiece's `tokenizer.model`; undefined when there is none.
 * @throws StartupError that names the file and what is wrong or not served.
 */
export function readSentencePieceFile(path: string): SentencePieceFile | undefined {
  const bytes = withRegularFile(path, (file) => {
    if (file.bytes > MAX_BYTES) throw broken(`${path} is longer than ${MAX_BYTES} bytes`)
    const all = new Uint8Array(file.bytes)
    return all.subarray(0, file.read(all))
  })
  if (!bytes) return undefined
  if (isTiktoken(bytes)) {
    throw unsupported(`${path} is a tiktoken vocabulary, not a SentencePiece model: tokenizer.json is needed`)
  }
  try {
    return parseModel(path, bytes)
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    throw broken(`${path} is no SentencePiece model: ${error.message}`, error)
  }
}

function parseModel(path: string, bytes: Uint8Array): SentencePieceFile {
  const pieces: Piece[] = []
  const trainer = new Map<number, number>()
  const normalizer = new Map<number, number>()
  const integers = (message: Uint8Array, into: Map<number, number>) => {
    for (const { number, value } of protobufFields(message)) {
      into.set(number, typeof value === 'number' ? value : value.length)
    }
  }
  const denormalizer = new Map<number, number>()
  for (const { number, value } of protobufFields(bytes)) {
    if (typeof value === 'number') continue
    if (number === MODEL.pieces) {
      if (pieces.length === MAX_PIECES) throw broken(`${path} has more than ${MAX_PIECES} pieces`)
      const piece = readPiece(value)
      if (!Number.isFinite(piece.score))
        throw broken(`${path} piece ${pieces.length}: its score is no number`)
      pieces.push(piece)
    } else if (number === MODEL.trainer) integers(value, trainer)
    else if (number === MODEL.normalizer) integers(value, normalizer)
    else if (number === MODEL.denormalizer) integers(value, denormalizer)
  }
  if (pieces.length === 0) throw broken(`${path} is no SentencePiece model: it has no pieces`)
  const flag = (from: Map<number, number>, field: number, byDefault: boolean) =>
    (from.get(field) ?? Number(byDefault)) !== 0

  const modelType = trainer.get(TRAINER.modelType) ?? 1
  if (modelType !== BPE) {
    const name = MODEL_TYPES[modelType] ?? `number ${modelType}`
    throw unsupported(`${path} has a model of type ${name}: only BPE is served`)
  }
  if (flag(trainer, TRAINER.spaceAsSuffix, false))
    throw unsupported(`${path} sets treat_whitespace_as_suffix`)
  if (!flag(normalizer, NORMALIZER.escapeSpaces, true))
    throw unsupported(`${path} sets escape_whitespaces off`)
  if (normalizer.get(NORMALIZER.charsmap)) {
    throw unsupported(
      path,
      'normalises text by a precompiled_charsmap (such as nmt_nfkc): only identity is served',
    )
  }
  if (denormalizer.get(NORMALIZER.charsmap)) throw unsupported(`${path} has a denormalizer_spec`)
  return {
    pieces,
    unknownId: trainer.get(TRAINER.unkId) ?? 0,
    bosId: trainer.get(TRAINER.bosId) ?? 1,
    eosId: trainer.get(TRAINER.eosId) ?? 2,
    byteFallback: flag(trainer, TRAINER.byteFallback, false),
    addsPrefix: flag(normalizer, NORMALIZER.addDummyPrefix, true),
    collapsesSpaces: flag(normalizer, NORMALIZER.removeExtraSpaces, true),
  }
}

function readPiece(bytes: Uint8Array): Piece {
  const piece: Piece = { text: '', score: 0, type: PIECE.normal }
  for (const { number, value } of protobufFields(bytes)) {
    if (number === PIECE_FIELD.text && typeof value !== 'number') piece.text = utf8.decode(value)
    if (number === PIECE_FIELD.score && typeof value === 'number') piece.score = value
    if (number === PIECE_FIELD.type && typeof value === 'number') piece.type = value
  }
  return piece
}

/** Lines of a token in base64 and its rank. */
function isTiktoken(bytes: Uint8Array): boolean {
  return /^[A-Za-z0-9+/]+=* \d+\n/.test(new TextDecoder('latin1').decode(bytes.subarray(0, 256)))
}
