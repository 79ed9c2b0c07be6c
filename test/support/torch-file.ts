// Writes torch's zip files and their pickles piece by piece, so that tests can write what torch.save never would.

export interface Member {
  readonly name: string
  readonly data: Buffer
  /** Fields of the directory's entry that are not what they should be. */
  readonly method?: number
  readonly flags?: number
  readonly bytes?: number
  readonly packedBytes?: number
  /** Of the local header. */
  readonly offset?: number
  readonly localName?: string
}

export interface ZipOptions {
  /** 64, as torch has it. */
  readonly alignment?: number
  /** With the records of large files, and the sizes only there. */
  readonly zip64?: boolean
}

export function zipFile(
  members: readonly Member[],
  { alignment = 64, zip64 = false }: ZipOptions = {},
): Buffer {
  const parts: Buffer[] = []
  let at = 0
  const add = (part: Buffer) => {
    parts.push(part)
    at += part.length
  }
  const entries = members.map((member) => {
    const header = at
    const name = Buffer.from(member.localName ?? member.name)
    const unpadded = at + 30 + name.length + 4
    const padding = (alignment - (unpadded % alignment)) % alignment
    const local = Buffer.alloc(30 + name.length + 4 + padding)
    local.writeUInt32LE(0x04034b50)
    local.writeUInt16LE(name.length, 26)
    local.writeUInt16LE(4 + padding, 28)
    name.copy(local, 30)
    local.write('FB', 30 + name.length)
    local.writeUInt16LE(padding, 30 + name.length + 2)
    add(local)
    add(member.data)
    return entry(member, member.offset ?? header, zip64)
  })
  const directory = { offset: at, bytes: entries.reduce((sum, { length }) => sum + length, 0) }
  for (const each of entries) add(each)
  if (zip64) add(end64(directory, entries.length, at))
  const end = Buffer.alloc(22)
  end.writeUInt32LE(0x06054b50)
  end.writeUInt16LE(zip64 ? 0xffff : entries.length, 8)
  end.writeUInt16LE(zip64 ? 0xffff : entries.length, 10)
  end.writeUInt32LE(zip64 ? 0xffffffff : directory.bytes, 12)
  end.writeUInt32LE(zip64 ? 0xffffffff : directory.offset, 16)
  return Buffer.concat([...parts, end])
}

function entry(member: Member, header: number, zip64: boolean): Buffer {
  const { name, data, method = 0, flags = 0x808 } = member
  const { bytes = data.length, packedBytes = bytes } = member
  const sizes = [bytes, packedBytes, header]
  const extra = Buffer.alloc(zip64 ? 4 + 24 : 0)
  if (zip64) {
    extra.writeUInt16LE(1)
    extra.writeUInt16LE(24, 2)
    sizes.forEach((size, index) => {
      extra.writeBigUInt64LE(BigInt(size), 4 + 8 * index)
    })
  }
  const fields = Buffer.alloc(46)
  fields.writeUInt32LE(0x02014b50)
  fields.writeUInt16LE(flags, 8)
  fields.writeUInt16LE(method, 10)
  fields.writeUInt32LE(zip64 ? 0xffffffff : packedBytes, 20)
  fields.writeUInt32LE(zip64 ? 0xffffffff : bytes, 24)
  fields.writeUInt16LE(Buffer.byteLength(name), 28)
  fields.writeUInt16LE(extra.length, 30)
  fields.writeUInt32LE(zip64 ? 0xffffffff : header, 42)
  return Buffer.concat([fields, Buffer.from(name), extra])
}

function end64({ offset, bytes }: { offset: number; bytes: number }, count: number, at: number): Buffer {
  const records = Buffer.alloc(56 + 20)
  records.writeUInt32LE(0x06064b50)
  records.writeBigUInt64LE(44n, 4)
  for (const place of [24, 32]) records.writeBigUInt64LE(BigInt(count), place)
  records.writeBigUInt64LE(BigInt(bytes), 40)
  records.writeBigUInt64LE(BigInt(offset), 48)
  records.writeUInt32LE(0x07064b50, 56)
  records.writeBigUInt64LE(BigInt(at), 64)
  records.writeUInt32LE(1, 72)
  return records
}

// Pickles, protocol 2.

export function text(value: string): Buffer {
  const bytes = Buffer.from(value)
  const length = Buffer.alloc(4)
  length.writeUInt32LE(bytes.length)
  return Buffer.concat([Buffer.from('X'), length, bytes])
}

export function int(value: number): Buffer {
  if (Number.isInteger(value) && Math.abs(value) < 2 ** 31) {
    const small = Buffer.from('J\0\0\0\0')
    small.writeInt32LE(value, 1)
    return small
  }
  const large = Buffer.alloc(10)
  large.writeUInt8(0x8a)
  large.writeUInt8(8, 1)
  large.writeBigInt64LE(BigInt(value), 2)
  return large
}

export const global = (module: string, name: string): Buffer => Buffer.from(`c${module}\n${name}\n`)
export const tuple = (...items: Buffer[]): Buffer =>
  Buffer.concat([Buffer.from('('), ...items, Buffer.from('t')])
export const call = (callee: Buffer, ...args: Buffer[]): Buffer =>
  Buffer.concat([callee, tuple(...args), Buffer.from('R')])
export const dict = (...items: Buffer[]): Buffer =>
  Buffer.concat([Buffer.from('}('), ...items, Buffer.from('u')])
export const pickle = (value: Buffer): Buffer =>
  Buffer.concat([Buffer.from([0x80, 2]), value, Buffer.from('.')])
export const FALSE = Buffer.from([0x89])

export interface TensorSpec {
  readonly storage?: string
  readonly key?: string
  /** Of the storage. */
  readonly elements?: number
  readonly offset?: number
  readonly shape?: readonly number[]
  readonly stride?: readonly number[]
}

/** By default two rows of three floats, in storage 0. */
export function tensor(spec: TensorSpec = {}): Buffer {
  const { storage = 'FloatStorage', key = '0', elements = 6, offset = 0, shape = [2, 3] } = spec
  const stride = spec.stride ?? shape.map((_, i) => shape.slice(i + 1).reduce((a, b) => a * b, 1))
  const id = tuple(text('storage'), global('torch', storage), text(key), text('cpu'), int(elements))
  return call(
    global('torch._utils', '_rebuild_tensor_v2'),
    Buffer.concat([id, Buffer.from('Q')]),
    int(offset),
    tuple(...shape.map(int)),
    tuple(...stride.map(int)),
    FALSE,
    call(global('collections', 'OrderedDict')),
  )
}

/** The members of a file with this pickle and storages of some floats. */
export function torchMembers(data: Buffer, storages: Readonly<Record<string, Buffer>> = {}): Member[] {
  return [
    { name: 'model/data.pkl', data },
    { name: 'model/byteorder', data: Buffer.from('little') },
    ...Object.entries(storages).map(([key, bytes]) => ({ name: `model/data/${key}`, data: bytes })),
    { name: 'model/version', data: Buffer.from('3\n') },
  ]
}

export function floats(count: number): Buffer {
  return Buffer.from(Float32Array.from({ length: count }, (_, i) => Math.sin(i)).buffer)
}
