import { AparError } from '../../../shared/errors.ts'

/** `ModelProto.SentencePiece.Type` of sentencepiece_model.proto (google/sentencepiece). */
export const PIECE = { normal: 1, unknown: 2, control: 3, userDefined: 4, byte: 6 } as const

export interface Piece {
  text: string
  score: number
  type: number
}

export interface SentencePieceModel {
  pieces: Piece[]
  bpe: boolean
  byteFallback: boolean
  addDummyPrefix: boolean
  removeExtraWhitespaces: boolean
}

type Field = { field: number; value: number | Uint8Array }

/** Reads a `.model` file (protobuf). @throws AparError when it is not one. */
export function readSentencePiece(bytes: Uint8Array): SentencePieceModel {
  const model: SentencePieceModel = {
    pieces: [],
    bpe: false,
    byteFallback: false,
    addDummyPrefix: true,
    removeExtraWhitespaces: true,
  }
  for (const { field, value } of fields(bytes)) {
    if (!(value instanceof Uint8Array)) continue
    if (field === 1) model.pieces.push(readPiece(value))
    else if (field === 2) {
      for (const trainer of fields(value)) {
        if (trainer.field === 3) model.bpe = trainer.value === 2
        if (trainer.field === 35) model.byteFallback = trainer.value === 1
      }
    } else if (field === 3) {
      for (const normalizer of fields(value)) {
        if (normalizer.field === 3) model.addDummyPrefix = normalizer.value === 1
        if (normalizer.field === 4) model.removeExtraWhitespaces = normalizer.value === 1
      }
    }
  }
  if (model.pieces.length === 0)
    throw new AparError('invalid_request', 'not a SentencePiece model: no pieces')
  return model
}

function readPiece(bytes: Uint8Array): Piece {
  const piece: Piece = { text: '', score: 0, type: PIECE.normal }
  for (const { field, value } of fields(bytes)) {
    if (field === 1 && value instanceof Uint8Array) piece.text = new TextDecoder().decode(value)
    if (field === 2 && typeof value === 'number') piece.score = value
    if (field === 3 && typeof value === 'number') piece.type = value
  }
  return piece
}

/** Protobuf wire format: varints, 64-bit, length-delimited and 32-bit (read as float) fields. */
function* fields(bytes: Uint8Array): Generator<Field> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  let position = 0
  const varint = (): number => {
    let result = 0
    for (let scale = 1; ; scale *= 128) {
      const byte = view.getUint8(position++)
      result += (byte & 127) * scale
      if (byte < 128) return result
    }
  }
  try {
    while (position < bytes.length) {
      const key = varint()
      const field = Math.floor(key / 8)
      const wire = key % 8
      if (wire === 0) yield { field, value: varint() }
      else if (wire === 1) {
        yield { field, value: view.getFloat64(position, true) }
        position += 8
      } else if (wire === 2) {
        const length = varint()
        yield { field, value: bytes.subarray(position, position + length) }
        position += length
      } else if (wire === 5) {
        yield { field, value: view.getFloat32(position, true) }
        position += 4
      } else throw new RangeError(`wire type ${wire}`)
    }
  } catch (cause) {
    if (cause instanceof RangeError)
      throw new AparError('invalid_request', 'not a SentencePiece model', { cause })
    throw cause
  }
}
