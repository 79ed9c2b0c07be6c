/** One field of a protobuf message: a varint, a float of 32 or 64 bits, or bytes (a string, a message). */
export interface ProtobufField {
  readonly number: number
  readonly value: number | Uint8Array
}

/** Why bytes are no message of protobuf's wire format. */
export class NoMessage extends Error {}

/** Bytes of the longest varint, one of 64 bits. */
const MAX_VARINT = 10

/**
 * The fields of a message in protobuf's wire format, in the order of the file. Values of bytes are views: nothing is
 * copied, and nothing beyond the message is read. A varint that is negative, or too large for a number, is -1.
 * @throws NoMessage
 */
export function* protobufFields(bytes: Uint8Array): Generator<ProtobufField> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  let at = 0
  const varint = (): number => {
    let value = 0
    for (let index = 0; index < MAX_VARINT; index++) {
      if (at === bytes.length) throw new NoMessage('it ends within a number')
      const byte = view.getUint8(at++)
      value += (byte & 127) * 128 ** index
      if (byte < 128) return Number.isSafeInteger(value) ? value : -1
    }
    throw new NoMessage('a number of more than 64 bits')
  }
  const skip = (count: number): number => {
    if (count < 0 || count > bytes.length - at) throw new NoMessage(`a field of ${count} bytes`)
    at += count
    return at - count
  }
  while (at < bytes.length) {
    const key = varint()
    const number = Math.floor(key / 8)
    if (number < 1) throw new NoMessage(`field number ${number}`)
    switch (key % 8) {
      case 0:
        yield { number, value: varint() }
        break
      case 1:
        yield { number, value: view.getFloat64(skip(8), true) }
        break
      case 2: {
        const start = skip(varint())
        yield { number, value: bytes.subarray(start, at) }
        break
      }
      case 5:
        yield { number, value: view.getFloat32(skip(4), true) }
        break
      default:
        throw new NoMessage(`wire type ${key % 8}`)
    }
  }
}
