import { Gunzip } from 'fflate'
import { AparError } from '../../shared/errors.ts'

/** What a request body may have as Content-Encoding. */
export const BODY_ENCODINGS = ['gzip', 'identity'] as const
type BodyEncoding = (typeof BODY_ENCODINGS)[number]

/** A byte of gzip becomes at most 1,032 bytes: so much is decompressed before its length is checked. */
const SLICE_BYTES = 1024
/** Checksum and length. */
const TRAILER_BYTES = 8

/** @throws AparError `unsupported_encoding`. */
export function bodyEncoding(header: string | undefined): BodyEncoding {
  const name = header?.trim().toLowerCase() || 'identity'
  const known = BODY_ENCODINGS.find((encoding) => encoding === (name === 'x-gzip' ? 'gzip' : name))
  if (known) return known
  const shown = JSON.stringify(name.slice(0, 64))
  const message = `a request body may not have the content-encoding ${shown}, only ${BODY_ENCODINGS.join(' or ')}`
  throw new AparError('unsupported_encoding', message, { param: 'content-encoding' })
}

/**
 * The decompressed body. Not the platform's DecompressionStream, which decompresses all of a chunk, however long, before
 * anyone can look at its length.
 * @throws AparError `body_too_large` as soon as it has more than `maxBytes`, `invalid_request` when it is not gzip, as one member.
 */
export function gunzip(body: Uint8Array, maxBytes: number): Uint8Array<ArrayBuffer> {
  const parts: Uint8Array[] = []
  let length = 0
  let ended = false
  const stream = new Gunzip((part, final) => {
    length += part.length
    if (length > maxBytes) throw tooLarge(maxBytes)
    parts.push(part)
    ended ||= final
  })
  try {
    for (let at = 0; at < body.length; at += SLICE_BYTES) {
      stream.push(body.subarray(at, at + SLICE_BYTES), at + SLICE_BYTES >= body.length)
    }
  } catch (cause) {
    throw cause instanceof AparError ? cause : notGzip(cause)
  }
  const whole = new Uint8Array(length)
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  // Fflate does not look at the checksum: a damaged body would be another one.
  if (!ended || body.length < TRAILER_BYTES) throw notGzip()
  const trailer = new DataView(body.buffer, body.byteOffset + body.length - TRAILER_BYTES)
  if (trailer.getUint32(0, true) !== crc32(whole) || trailer.getUint32(4, true) !== length) throw notGzip()
  return whole
}

/** RFC 1952, 8: the polynomial 0xEDB88320, reflected. */
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1
  return crc
})

function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff
  for (const byte of bytes) crc = (crc >>> 8) ^ (CRC_TABLE[(crc ^ byte) & 0xff] ?? 0)
  return ~crc >>> 0
}

export function tooLarge(maxBytes: number): AparError {
  return new AparError('body_too_large', `a request body may have at most ${maxBytes} bytes`)
}

function notGzip(cause?: unknown): AparError {
  return new AparError('invalid_request', 'the body is not valid gzip', { param: 'content-encoding', cause })
}
