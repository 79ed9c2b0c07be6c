// Format: torch/serialization.py, _save: a zip file with a pickle, `NAME/data.pkl`, and each storage's bytes as a
// member `NAME/data/KEY`. The pickle refers to a storage by ('storage', class, KEY, device, elements).

import type { StartupError } from '../../startup-error.ts'
import { broken, unsupported } from '../refusals.ts'
import { type RegularFile, withRegularFile } from '../regular-file.ts'
import { BYTES_PER_ELEMENT, type StoredTensor } from '../safetensors.ts'
import { type Call, describe, isKind, type PickleValue, readPickle } from './pickle.ts'
import { readZip, type ZipMember } from './zip.ts'

/** A tensor takes about 250. */
const MAX_PICKLE_BYTES = 16 << 20
const MAX_DIMENSIONS = 8

const TENSOR = 'torch._utils._rebuild_tensor_v2'
/** Of element types without a storage class: the storage is untyped, the type an argument. */
const TYPED_TENSOR = 'torch._utils._rebuild_tensor_v3'
const PARAMETERS = ['torch._utils._rebuild_parameter', 'torch._utils._rebuild_parameter_with_state']
const UNTYPED = 'torch.storage.UntypedStorage'

/** Element types under safetensors' names. */
const STORAGES: Record<string, string> = {
  'torch.DoubleStorage': 'F64',
  'torch.FloatStorage': 'F32',
  'torch.HalfStorage': 'F16',
  'torch.BFloat16Storage': 'BF16',
  'torch.LongStorage': 'I64',
  'torch.IntStorage': 'I32',
  'torch.ShortStorage': 'I16',
  'torch.CharStorage': 'I8',
  'torch.ByteStorage': 'U8',
  'torch.BoolStorage': 'BOOL',
}
const DTYPES: Record<string, string> = {
  'torch.float8_e4m3fn': 'F8_E4M3',
  'torch.float8_e5m2': 'F8_E5M2',
  'torch.uint64': 'U64',
  'torch.uint32': 'U32',
  'torch.uint16': 'U16',
}

const ALLOWED: ReadonlySet<string> = new Set([
  ...['collections.OrderedDict', TENSOR, TYPED_TENSOR, ...PARAMETERS, UNTYPED],
  ...[...Object.keys(STORAGES), ...Object.keys(DTYPES)],
])

/** The first bytes of files that torch wrote before 1.6: a pickle of a number, not a zip. */
const OLD_MAGIC = Buffer.from('80028a0a6cfc9c46f9206aa85019', 'hex')
/** The same of files from before 0.1.10, which are tar archives. */
const TAR = { magic: Buffer.from('ustar'), at: 257 }

/**
 * Reads the table of tensors of a file that torch.save wrote from a state dict, but no tensor's data. Tensors may share
 * a storage. The same kind of table as a safetensors file's.
 * @throws StartupError that names the file, and the tensor where it is known.
 */
export function readTorchFile(path: string): StoredTensor[] {
  const tensors = withRegularFile(path, (file) => read(path, file))
  if (!tensors) throw broken(`${path} is missing`)
  return tensors
}

function read(path: string, file: RegularFile): StoredTensor[] {
  const members = readZip(path, file)
  if (!members) throw notAZip(path, file)
  const pickles = [...members.keys()].filter((name) => name.endsWith('/data.pkl'))
  const [pickle = ''] = pickles
  if (pickles.length !== 1)
    throw broken(`${path}: has ${pickles.length} members data.pkl: torch.save writes one`)
  const root = pickle.slice(0, -'data.pkl'.length)
  const order = members.get(`${root}byteorder`)
  // Older versions do not say it; they only ran on little-endian machines.
  if (order && readMember(path, file, order).toString() !== 'little')
    throw unsupported(`${path}: its numbers are not little-endian`)
  const top = readPickle(path, readMember(path, file, members.get(pickle)), ALLOWED)
  if (!isKind(top, 'dict')) throw unsupported(`${path}: holds ${describe(top)}, not a dict of tensors`)
  return [...top.entries].map(([name, value]) => toTensor(path, name, value, root, members))
}

function readMember(path: string, file: RegularFile, member: ZipMember = { offset: 0, bytes: 0 }): Buffer {
  if (member.bytes > MAX_PICKLE_BYTES)
    throw broken(`${path}: its pickle of ${member.bytes} bytes is longer than ${MAX_PICKLE_BYTES}`)
  const bytes = Buffer.alloc(member.bytes)
  if (file.readAt(bytes, member.offset) < member.bytes)
    throw broken(`${path}: became shorter while it was read`)
  return bytes
}

function toTensor(
  path: string,
  name: PickleValue,
  value: PickleValue,
  root: string,
  members: ReadonlyMap<string, ZipMember>,
): StoredTensor {
  if (typeof name !== 'string' || name === '')
    throw broken(`${path}: a tensor's name is ${describe(name)}, not a text`)
  const where = `${path}: ${name}`
  const call = rebuildCall(where, value)
  const [storage, first, size, stride, , , ...rest] = call.args
  const typed = call.callee === TYPED_TENSOR ? rest.shift() : undefined
  // Marks of lazy operations, such as a negation that has not been carried out.
  if (rest.some((extra) => extra != null))
    throw unsupported(`${where}: has marks of operations, which are not read`)
  const { dtype, key, bytes } = toStorage(where, storage, typed)
  const member = members.get(`${root}data/${key}`)
  if (!member) throw broken(`${where}: its storage ${JSON.stringify(key)} is missing`)
  if (!(bytes <= member.bytes))
    throw broken(`${where}: its storage of ${bytes} bytes is stored in ${member.bytes} bytes`)

  const shape = sizes(where, size)
  const strides = sizes(where, stride)
  if (!isCount(first)) throw broken(`${where}: begins at element ${describe(first)} of its storage`)
  if (strides.length !== shape.length) throw broken(`${where}: its shape and its strides differ in length`)
  if (!isContiguous(shape, strides)) {
    const view = `is a view with strides [${strides.join(', ')}] of shape [${shape.join(', ')}]`
    throw unsupported(`${where}: ${view}: save it with .contiguous()`)
  }
  const elementBytes = BYTES_PER_ELEMENT[dtype] ?? 1
  const begin = first * elementBytes
  const end = shape.reduce((product, length) => product * length, elementBytes) + begin
  if (!(end <= bytes)) throw broken(`${where}: bytes ${begin} to ${end} are outside its storage of ${bytes}`)
  return { name, offset: member.offset + begin, dtype, shape }
}

/** The call that makes a tensor; a parameter is a tensor in another class. */
function rebuildCall(where: string, value: PickleValue | undefined): Call {
  const inner = isKind(value, 'call') && PARAMETERS.includes(value.callee) ? value.args[0] : value
  const isTensor = isKind(inner, 'call') && (inner.callee === TENSOR || inner.callee === TYPED_TENSOR)
  if (!isTensor) throw unsupported(`${where}: is ${describe(inner)}, not a tensor`)
  return inner
}

interface Storage {
  readonly dtype: string
  readonly key: string
  readonly bytes: number
}

function toStorage(where: string, value: PickleValue | undefined, typed: PickleValue | undefined): Storage {
  const id = isKind(value, 'persistent') ? value.id : undefined
  const [kind, type, key, , elements] = isKind(id, 'tuple') ? id.items : []
  if (kind !== 'storage' || !isKind(type, 'global') || typeof key !== 'string' || !isCount(elements))
    throw broken(`${where}: its storage is not described as torch.save does it`)
  // The number of elements of an untyped storage is its number of bytes.
  if (type.name === UNTYPED && isKind(typed, 'global')) {
    const dtype = DTYPES[typed.name]
    if (dtype !== undefined) return { dtype, key, bytes: elements }
  }
  const dtype = STORAGES[type.name]
  if (dtype === undefined || typed !== undefined)
    throw broken(`${where}: its storage is ${type.name}, its element type ${describe(typed)}`)
  return { dtype, key, bytes: elements * (BYTES_PER_ELEMENT[dtype] ?? 1) }
}

function sizes(where: string, value: PickleValue | undefined): number[] {
  const items = isKind(value, 'tuple') ? value.items : undefined
  if (!items || items.length > MAX_DIMENSIONS || !items.every(isCount))
    throw broken(`${where}: its shape or its strides are no sizes`)
  return [...items]
}

function isCount(value: PickleValue | undefined): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
}

/** Whether the elements lie one after the other. The stride of a dimension of one element is never used. */
function isContiguous(shape: readonly number[], strides: readonly number[]): boolean {
  if (shape.includes(0)) return true
  let expected = 1
  for (let dimension = shape.length - 1; dimension >= 0; dimension--) {
    const size = shape[dimension] ?? 1
    if (size !== 1 && strides[dimension] !== expected) return false
    expected *= size
  }
  return true
}

function notAZip(path: string, file: RegularFile): StartupError {
  const startsAt = (bytes: Buffer, at: number) => {
    const found = Buffer.alloc(bytes.length)
    return file.readAt(found, at) === bytes.length && found.equals(bytes)
  }
  if (startsAt(OLD_MAGIC, 0) || startsAt(TAR.magic, TAR.at)) {
    const convert = 'load it with torch.load and save it again with torch.save'
    return unsupported(`${path}: is in the format that torch wrote before 1.6: ${convert}`)
  }
  return broken(`${path}: does not end as a torch file (a zip) does: it is cut off, or another kind of file`)
}
