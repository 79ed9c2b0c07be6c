import { execFileSync } from 'node:child_process'
import {
  closeSync,
  cpSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { readConfig } from '../../gpu-node/checkpoint/config.ts'
import { findMedusa } from '../../gpu-node/checkpoint/medusa/find-medusa.ts'
import { readMedusaHeads } from '../../gpu-node/checkpoint/medusa/medusa-heads.ts'
import { tensorBytes } from '../../gpu-node/checkpoint/tensor-blocks.ts'
import { readTorchFile } from '../../gpu-node/checkpoint/torch/torch-file.ts'
import { readWeights, type WeightTable } from '../../gpu-node/checkpoint/weights.ts'
import { StartupError } from '../../gpu-node/startup-error.ts'
import {
  call,
  dict,
  FALSE,
  floats,
  global,
  int,
  type Member,
  pickle,
  type TensorSpec,
  tensor,
  text,
  torchMembers,
  tuple,
  type ZipOptions,
  zipFile,
} from '../support/torch-file.ts'

const GOLDEN = join(import.meta.dirname, '../golden/torch')
const folder = mkdtempSync(join(tmpdir(), 'apar-torch-'))
afterAll(() => rmSync(folder, { recursive: true }))

/** Name → type, shape and bytes. */
function contents({ files, tensors }: WeightTable): Map<string, string> {
  const opened = files.map((file) => openSync(file, 'r'))
  try {
    return new Map(
      tensors.map(({ name, file, offset, dtype, shape }) => {
        const bytes = Buffer.alloc(tensorBytes(dtype, shape))
        expect(readSync(opened[file] ?? -1, bytes, 0, bytes.length, offset)).toBe(bytes.length)
        return [name, `${dtype} [${shape}] ${bytes.toString('hex')}`] as const
      }),
    )
  } finally {
    opened.forEach(closeSync)
  }
}

let files = 0
function write(bytes: Buffer): string {
  const path = join(folder, `file-${files++}.bin`)
  writeFileSync(path, bytes)
  return path
}

function refusal(read: () => unknown): StartupError {
  try {
    read()
  } catch (error) {
    if (!(error instanceof StartupError)) throw error
    // A mistake in the parser would be taken for an error of the file system.
    expect(error.cause).not.toBeInstanceOf(TypeError)
    expect(error.cause).not.toBeInstanceOf(RangeError)
    return error
  }
  throw new Error('it was accepted')
}

/** What is wrong with this file, without its path. */
function wrongWith(bytes: Buffer): string {
  const path = write(bytes)
  const { message } = refusal(() => readTorchFile(path))
  expect(message.startsWith(`${path}`)).toBe(true)
  return message.slice(path.length).replace(/^:? /, '')
}

const STORAGE = { 0: floats(6) }
const wrongMembers = (members: readonly Member[], options?: ZipOptions) =>
  wrongWith(zipFile(members, options))
const wrongPickle = (value: Buffer) => wrongMembers(torchMembers(value, STORAGE))
const wrongTensor = (spec: TensorSpec) => wrongPickle(pickle(dict(text('w'), tensor(spec))))

describe('files that torch has written', () => {
  const { shape } = readConfig(join(GOLDEN, 'apar-7b'))

  test('the same weights are found in shards, in one file and in safetensors', () => {
    const expected = contents(readWeights(join(GOLDEN, 'safetensors'), shape))
    expect(expected.size).toBe(21)
    expect(contents(readWeights(join(GOLDEN, 'apar-7b'), shape))).toEqual(expected)
    expect(contents(readWeights(join(GOLDEN, 'single'), shape))).toEqual(expected)
  })

  test('the layers of a Medusa head share their weights', () => {
    const found = findMedusa(join(GOLDEN, 'apar-7b'), undefined) ?? ''
    const heads = readMedusaHeads(found, shape)
    expect(heads).toMatchObject({
      shape: { numHeads: 2, numLayers: 2, sharesLmHead: false, readsNextToken: false, vocabSize: 302 },
      baseModel: 'apar-7b',
    })
    const stored = contents(heads.weights)
    expect(stored.size).toBe(2 * 5)
    for (const part of ['weight', 'bias'])
      expect(stored.get(`0.0.linear.${part}`)).toBe(stored.get(`0.1.linear.${part}`))
    expect(stored.get('0.0.linear.weight')).not.toBe(stored.get('1.0.linear.weight'))
    expect(stored.get('1.2.weight')).toMatch('F16 [302,16]')
    expect(findMedusa(join(GOLDEN, 'single'), undefined)).toBeUndefined()
    const wider = { ...shape, hiddenSize: 32 }
    expect(refusal(() => readMedusaHeads(found, wider)).message).toMatch(
      'medusa_lm_head.pt: 0.0.linear.weight: shape is [16, 16], the configuration asks for [32, 32]',
    )
    const other = mkdtempSync(join(folder, 'medusa-'))
    const config = (fields: object) => writeFileSync(join(other, 'config.json'), JSON.stringify(fields))
    config({ medusa_num_heads: 3, medusa_num_layers: 2 })
    expect(refusal(() => readMedusaHeads(other, shape)).message).toMatch('has neither medusa_lm_head')
    cpSync(join(found, 'medusa_lm_head.pt'), join(other, 'medusa_lm_head.pt'))
    expect(refusal(() => readMedusaHeads(other, shape)).message).toMatch(
      'tensor 2.0.linear.weight is missing',
    )
    config({ medusa_num_heads: 2, medusa_num_layers: 1 })
    expect(refusal(() => readMedusaHeads(other, shape)).message).toMatch(
      'a Medusa model of 2 heads with 1 layer has no such tensor',
    )
    config({ medusa_num_heads: 1e9, medusa_num_layers: 1 })
    expect(refusal(() => readMedusaHeads(other, shape)).message).toMatch('medusa_num_heads')
  })

  test('the format of before 1.6 and transposed tensors are refused', () => {
    const old = refusal(() => readTorchFile(join(GOLDEN, 'old.bin')))
    expect(old.code).toBe('unsupported_checkpoint')
    expect(old.message).toMatch(
      'old.bin: is in the format that torch wrote before 1.6: load it with torch.load and save it again',
    )
    const views = refusal(() => readTorchFile(join(GOLDEN, 'views.bin')))
    expect(views.message).toMatch(
      'views.bin: transposed: is a view with strides [1, 4] of shape [4, 3]: save it with .contiguous()',
    )
  })
})

describe('a file is read', () => {
  const two = pickle(dict(text('w'), tensor(), text('row'), tensor({ offset: 3, shape: [3] })))

  test.each([
    ['as torch writes it', {}],
    ['with the records of large files', { zip64: true }],
    ['whose members are not aligned', { alignment: 1 }],
  ])('%s', (_, options) => {
    const path = write(zipFile(torchMembers(two, STORAGE), options))
    const tensors = readTorchFile(path)
    expect(tensors).toMatchObject([
      { name: 'w', dtype: 'F32', shape: [2, 3] },
      { name: 'row', dtype: 'F32', shape: [3] },
    ])
    const bytes = readFileSync(path)
    const [{ offset = 0 } = {}, row] = tensors
    expect(bytes.subarray(offset, offset + 24)).toEqual(floats(6))
    expect(row?.offset).toBe(offset + 12)
  })

  test('with tensors of one element or none, whatever their strides', () => {
    const value = dict(
      ...[text('one'), tensor({ shape: [1, 1], stride: [7, 9] })],
      ...[text('none'), tensor({ shape: [0, 3], stride: [1, 1] })],
      ...[text('scalar'), tensor({ shape: [], offset: 5 })],
    )
    const path = write(zipFile(torchMembers(pickle(value), STORAGE)))
    expect(readTorchFile(path).map(({ shape }) => shape)).toEqual([[1, 1], [0, 3], []])
  })
})

describe('a zip file is refused when', () => {
  const good = torchMembers(pickle(dict(text('w'), tensor())), STORAGE)
  /** One member differs. */
  const but = (name: string, change: Partial<Member>) =>
    good.map((member) => (member.name === `model/${name}` ? { ...member, ...change } : member))
  const storage = '"model/data/0"'

  test.each<[string, readonly Member[], string]>([
    ['a member is compressed', but('data/0', { method: 8 }), `${storage} is compressed`],
    ['a member is encrypted', but('data/0', { flags: 1 }), `${storage} is encrypted`],
    ['a member has two sizes', but('data/0', { packedBytes: 9 }), `${storage} has two sizes, 9 and 24 bytes`],
    ['a member overlaps another', but('data/0', { bytes: 70 }), '"model/version" overlaps "model/data/0"'],
    ['two members are one', but('version', { offset: 0 }), '"model/version" overlaps "model/data.pkl"'],
    [
      'a member ends in the directory',
      but('version', { bytes: 20 }),
      '"model/version" reaches beyond its place',
    ],
    [
      'a member lies outside',
      but('version', { offset: 99_999 }),
      'the header of "model/version" lies outside',
    ],
    [
      'a member is no member',
      but('data.pkl', { offset: 1 }),
      'the header of "model/data.pkl" is not where it',
    ],
    [
      'a header has another name',
      but('data/0', { localName: 'model/data/1' }),
      `${storage} has another name`,
    ],
    ['a name occurs twice', [...good, ...good], 'has "model/data.pkl" twice'],
    ['it has no pickle', but('data.pkl', { name: 'model/other' }), 'has 0 members data.pkl'],
    ['it has two archives', [...good, { name: 'b/data.pkl', data: FALSE }], 'has 2 members data.pkl'],
    ['its numbers are big-endian', but('byteorder', { data: Buffer.from('big') }), 'not little-endian'],
    ['a storage is missing', but('data/0', { name: 'model/data/1' }), 'w: its storage "0" is missing'],
    [
      'a storage is too short',
      but('data/0', { data: floats(5) }),
      'w: its storage of 24 bytes is stored in 20',
    ],
  ])('%s', (_, members, message) => {
    expect(wrongMembers(members)).toContain(message)
  })

  test('it is inside another, or followed by something', () => {
    const inner = zipFile(good)
    expect(wrongMembers([{ name: 'model.bin', data: inner }])).toMatch('has 0 members data.pkl')
    expect(wrongWith(Buffer.concat([inner, Buffer.from('x')]))).toMatch('does not end as a torch file')
    expect(wrongWith(Buffer.concat([Buffer.from('x'), inner]))).toMatch('the zip directory is damaged')
  })

  test('it is cut off, at whatever byte', () => {
    const whole = zipFile(good, { zip64: true })
    for (let bytes = 0; bytes < whole.length; bytes += 3) wrongWith(whole.subarray(0, bytes))
  })

  test('it claims sizes that it has no room for', () => {
    const whole = zipFile(good, { zip64: true })
    const end = whole.length - 22
    const at = { count: end - 76 + 32, bytes: end - 76 + 40, offset: end - 76 + 48, record: end - 20 + 8 }
    const claims: [keyof typeof at, bigint, string][] = [
      ['count', 2n ** 60n, `has no room for ${2 ** 60} members`],
      ['bytes', 2n ** 60n, 'the zip directory lies outside the file'],
      ['offset', 2n ** 60n, 'the zip directory lies outside the file'],
      ['record', 2n ** 60n, 'the zip64 end record lies outside the file'],
      ['record', 0n, 'has no zip64 end record'],
      ['count', 5n, 'the zip directory ends within a member'],
    ]
    for (const [field, value, message] of claims) {
      const changed = Buffer.from(whole)
      changed.writeBigUInt64LE(value, at[field])
      expect(wrongWith(changed)).toContain(message)
    }
  })
})

describe('a pickle is refused when', () => {
  const raw = (...bytes: (number | string)[]) =>
    pickle(
      Buffer.concat(
        bytes.map((byte) => (typeof byte === 'string' ? Buffer.from(byte) : Buffer.from([byte]))),
      ),
    )

  test.each<[string, Buffer, string]>([
    ['it calls', call(global('posix', 'system'), text('id')), 'asks for "posix.system"'],
    ['it names __builtin__', global('__builtin__', 'eval'), 'asks for "__builtin__.eval"'],
    [
      'it names a class by its texts',
      raw('X', 2, 0, 0, 0, 'os', 'X', 1, 0, 0, 0, 'x', 0x93),
      'asks for "os.x"',
    ],
    [
      'it has a class of torch',
      global('torch', 'ComplexFloatStorage'),
      'asks for "torch.ComplexFloatStorage"',
    ],
    ['it has a sparse tensor', global('torch._utils', '_rebuild_sparse_tensor'), '_rebuild_sparse_tensor'],
    ['it makes an object', raw('(cos\nsystem\n', 'o'), 'asks for "os.system"'],
    ['it has another opcode', raw('(', 0x81), 'opcode 0x81 at byte 3'],
    ['it is of a later protocol', Buffer.from([0x80, 6]), 'pickle protocol 6 is not read'],
    ['it holds a list', Buffer.from(']'), 'holds a list, not a dict of tensors'],
    ['it holds a number', int(5), 'holds 5, not a dict of tensors'],
    ['it has no value', Buffer.alloc(0), 'the pickle is damaged'],
    ['it pops a mark', raw('(0'), 'the pickle is damaged'],
    ['a memo is missing', raw('h', 7), 'the pickle has no memo 7'],
    ['a name occurs twice', dict(text('w'), tensor(), text('w'), tensor()), 'has the key "w" twice'],
    ['a name is a number', dict(int(1), tensor()), "a tensor's name is 1, not a text"],
    ['a value is a dict', dict(text('w'), dict(text('w'), tensor())), 'w: is a dict, not a tensor'],
    ['a value is a number', dict(text('w'), int(3)), 'w: is 3, not a tensor'],
    [
      'a dict contains itself',
      raw('}', 'q', 0, 'X', 1, 0, 0, 0, 'w', 'h', 0, 's'),
      'w: is a dict, not a tensor',
    ],
    ['a list contains itself', raw(']', 'q', 0, 'h', 0, 'a'), 'holds a list, not a dict of tensors'],
    ['it calls a number', raw('K', 1, ')R'), 'calls what is no function'],
    ['a string is longer than any name', text('n'.repeat(5000)), 'a string of 5000 bytes'],
    ['a string is longer than the file', raw('X', 255, 3, 0, 0, 'x'), 'the pickle is cut off'],
    ['a number is 2^60', int(2 ** 60), 'a number of 8 bytes'],
    ['it has a set of items of odd length', raw('}(K', 1, 'u'), 'sets items of no dict'],
    [
      'it sets attributes of a tensor',
      dict(text('w'), Buffer.concat([tensor(), Buffer.from('}b')])),
      'attributes',
    ],
    ['it is nested deeply', raw('('.repeat(50_000), 't'.repeat(50_000)), 'holds a tuple'],
    [
      'it is a bomb of memos',
      Buffer.from(`)q\0${'h\0h\0\x86q\0'.repeat(250_000)}`, 'latin1'),
      'more than 1000000 opcodes',
    ],
  ])('%s', (_, value, message) => {
    expect(wrongPickle(value[0] === 0x80 && value.length > 2 ? value : pickle(value))).toContain(message)
  })

  test.each<[string, TensorSpec, string]>([
    ['ends past its storage', { offset: 1 }, 'w: bytes 4 to 28 are outside its storage of 24'],
    ['begins past its storage', { offset: 7, shape: [0] }, 'w: bytes 28 to 28 are outside its storage of 24'],
    ['begins before its storage', { offset: -1 }, 'w: begins at element -1'],
    ['has a shape of 2^62', { shape: [2 ** 31 - 1, 2 ** 31 - 1] }, 'are outside its storage of 24'],
    ['has a negative size', { shape: [-2, -3] }, 'w: its shape or its strides are no sizes'],
    ['has 9 dimensions', { shape: [1, 1, 1, 1, 1, 1, 1, 2, 3] }, 'its shape or its strides are no sizes'],
    ['has a stride too few', { stride: [1] }, 'w: its shape and its strides differ in length'],
    ['repeats one row', { stride: [0, 1] }, 'w: is a view with strides [0, 1] of shape [2, 3]'],
    ['is transposed', { stride: [1, 2] }, 'w: is a view with strides [1, 2] of shape [2, 3]'],
    ['has a storage larger than its member', { elements: 7 }, 'its storage of 28 bytes is stored in 24'],
    [
      'has a wider type than its member',
      { storage: 'DoubleStorage' },
      'its storage of 48 bytes is stored in 24',
    ],
    ['is in a storage outside', { key: '../0' }, 'w: its storage "../0" is missing'],
  ])('a tensor %s', (_, spec, message) => {
    expect(wrongTensor(spec)).toContain(message)
  })

  test('a tensor is not described as torch does it', () => {
    const rebuild = global('torch._utils', '_rebuild_tensor_v2')
    const untyped = tuple(
      text('storage'),
      global('torch.storage', 'UntypedStorage'),
      text('0'),
      text('cpu'),
      int(24),
    )
    const stored = (id: Buffer) => Buffer.concat([id, Buffer.from('Q')])
    const sizes = [int(0), tuple(int(6)), tuple(int(1)), FALSE, FALSE]
    const wrong = (...args: Buffer[]) => wrongPickle(pickle(dict(text('w'), call(rebuild, ...args))))
    expect(wrong()).toMatch('w: its storage is not described as torch.save does it')
    expect(wrong(stored(int(1)), ...sizes)).toMatch('w: its storage is not described')
    expect(wrong(stored(untyped), ...sizes)).toMatch('w: its storage is torch.storage.UntypedStorage')
    const marks = dict(text('neg'), FALSE)
    expect(wrong(stored(untyped), ...sizes, marks)).toMatch('w: has marks of operations')
  })
})

describe('a folder of torch files is refused when', () => {
  const { shape } = readConfig(join(GOLDEN, 'apar-7b'))
  function copy(): string {
    const path = mkdtempSync(join(folder, 'copy-'))
    cpSync(join(GOLDEN, 'apar-7b'), path, { recursive: true })
    return path
  }
  const wrongFolder = (path: string) => refusal(() => readWeights(path, shape)).message

  test('a shard is missing, a Git LFS pointer or a FIFO', () => {
    const path = copy()
    const shard = join(path, 'pytorch_model-00002-of-00002.bin')
    rmSync(shard)
    expect(wrongFolder(path)).toBe(`${shard} is missing`)
    writeFileSync(shard, 'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n')
    expect(wrongFolder(path)).toMatch(`${shard} is a Git LFS pointer`)
    rmSync(shard)
    execFileSync('mkfifo', [shard])
    expect(wrongFolder(path)).toBe(`${shard} is a FIFO, not a file`)
    rmSync(join(path, 'pytorch_model.bin.index.json'))
    expect(wrongFolder(path)).toMatch('has no weights: none of model.safetensors')
  })

  test('its index leads out of it, or has nothing', () => {
    const path = copy()
    const index = join(path, 'pytorch_model.bin.index.json')
    writeFileSync(index, JSON.stringify({ weight_map: { 'lm_head.weight': '../other.bin' } }))
    expect(wrongFolder(path)).toBe(`${index}: "../other.bin" is not a file name`)
    writeFileSync(index, JSON.stringify({ weight_map: {} }))
    expect(wrongFolder(path)).toBe(`${index}: weight_map is empty`)
  })

  test('a tensor is missing, has another shape or an element type that is not served', () => {
    const path = mkdtempSync(join(folder, 'one-'))
    const file = join(path, 'pytorch_model.bin')
    const wrong = (value: Buffer) => {
      writeFileSync(file, zipFile(torchMembers(pickle(value), STORAGE)))
      return wrongFolder(path)
    }
    expect(wrong(dict(text('model.norm.weight'), tensor()))).toBe(
      `${file}: model.norm.weight: shape is [2, 3], the configuration asks for [16]`,
    )
    expect(wrong(dict(text('bias'), tensor()))).toBe(
      `${file}: bias: a model of this architecture has no such tensor`,
    )
    expect(wrong(dict(text('w'), tensor({ storage: 'IntStorage' })))).toMatch(
      `${file}: w: dtype I32 is not served`,
    )
    expect(wrong(dict())).toBe(`${file}: tensor model.embed_tokens.weight is missing`)
  })

  test('it has only another format', () => {
    const path = mkdtempSync(join(folder, 'other-'))
    for (const [name, advice] of [
      ['consolidated.00.pth', 'tensors under names of its own: convert it to Hugging Face'],
      ['model.onnx', 'a format that is not read: convert it to safetensors'],
      ['model.gguf', 'give the path of the file itself'],
    ] as const) {
      writeFileSync(join(path, name), '')
      expect(wrongFolder(path)).toBe(`${join(path, name)}: ${advice}`)
      rmSync(join(path, name))
    }
  })

  test('safetensors are served where a folder has both', () => {
    const path = copy()
    cpSync(join(GOLDEN, 'safetensors/model.safetensors'), join(path, 'model.safetensors'))
    expect(readWeights(path, shape).files).toEqual([join(path, 'model.safetensors')])
  })
})
