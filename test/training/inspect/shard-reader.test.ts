import { mkdtempSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ShardReader } from '../../../training/data/shards/reader.ts'
import { type WrittenExample, writeShardFolder } from '../../support/tiny-build.ts'

const folder = () => mkdtempSync(join(tmpdir(), 'apar-shards-'))

const example = (source: number, ids: number[]): WrittenExample => ({
  kind: 2,
  source,
  segments: [{ ids, learned: ids.map((_, at) => (at === 0 ? 0 : 1)) }],
})
const tree: WrittenExample = {
  kind: 0,
  source: 5,
  segments: [
    { ids: [9, 10, 3], learned: [0, 1, 1] },
    { parent: 0, ids: [4, 11, 2], learned: [0, 1, 1] },
    { parent: 0, ids: [12, 2], learned: [1, 1] },
  ],
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

/** Opens and reads everything. */
async function readAll(path: string) {
  const reader = await ShardReader.open(path)
  try {
    return await collect(reader.examples())
  } finally {
    await reader.close()
  }
}

describe('a reader of shards', () => {
  it.each(['uint16', 'uint32'])('gives what was written, in order and by number (%s)', async (tokens) => {
    const path = folder()
    const last = tokens === 'uint32' ? 99_999 : 60_000
    writeShardFolder(path, [[example(0, [1, last]), tree], [], [example(6, [7])]], {
      tokens,
      vocab_size: last + 1,
    })
    const reader = await ShardReader.open(path)
    const second = await reader.example(1)
    expect(second).toMatchObject({ number: 1, kind: 'structured', source: 5 })
    expect(second.segments.map(({ parent, tokens }) => [parent, [...tokens]])).toEqual([
      [undefined, [9, 10, 3]],
      [0, [4, 11, 2]],
      [0, [12, 2]],
    ])
    expect(second.segments.map(({ learned }) => [...learned])).toEqual([
      [0, 1, 1],
      [0, 1, 1],
      [1, 1],
    ])
    expect(await reader.example(2)).toMatchObject({ number: 2, kind: 'unstructured', source: 6 })
    expect([...((await reader.example(0)).segments[0]?.tokens ?? [])]).toEqual([1, last])
    expect((await collect(reader.heads())).map(({ source }) => source)).toEqual([0, 5, 6])
    expect((await collect(reader.examples())).map(({ number }) => number)).toEqual([0, 1, 2])
    await expect(reader.example(3)).rejects.toThrow('there is no example 3: they are 0 to 2')
    await reader.close()
  })

  it('reads examples that are larger than its window', async () => {
    const path = folder()
    const ids = Array.from({ length: 300_000 }, (_, at) => at % 50_000)
    writeShardFolder(path, [[example(0, [1]), example(1, ids), example(2, [8, 9])]], { vocab_size: 50_000 })
    const [, long, last] = await readAll(path)
    expect(long?.segments[0]?.tokens.join()).toBe(ids.join())
    expect([...(last?.segments[0]?.tokens ?? [])]).toEqual([8, 9])
  })

  it('reads a folder without examples', async () => {
    const path = folder()
    writeShardFolder(path, [])
    expect(await readAll(path)).toEqual([])
    const reader = await ShardReader.open(path)
    await expect(reader.example(0)).rejects.toThrow('there is no example 0: there are none')
  })
})

describe('a reader of shards refuses, and names the file:', () => {
  const broken = (change: (path: string) => void, meta?: Record<string, unknown>) => {
    const path = folder()
    writeShardFolder(path, [[example(0, [1, 2]), tree]], meta)
    change(path)
    return path
  }
  /** Sets the 32-bit number at this index of a file. */
  const set = (name: string, index: number, value: number) => (path: string) => {
    const bytes = readFileSync(join(path, name))
    bytes.writeUInt32LE(value, index * 4)
    writeFileSync(join(path, name), bytes)
  }
  const unchanged = () => {}

  it.each<[string, string, RegExp]>([
    ['no folder', join(folder(), 'none'), /none\/meta\.json: cannot be read: ENOENT/],
    ['no JSON', broken((path) => writeFileSync(join(path, 'meta.json'), '{')), /meta\.json: not valid JSON/],
    ['another format', broken(unchanged, { format: 'x' }), /meta\.json: not shards of version 2: format: /],
    ['version 1', broken(unchanged, { version: 1 }), /meta\.json: not shards of version 2: version: /],
    [
      'a path for a name',
      broken(unchanged, { shards: [{ name: '../00000', examples: 2, segments: 4, tokens: 10 }] }),
      /meta\.json: not shards of version 2: shards\.0\.name: /,
    ],
    [
      'a wrong number of examples',
      broken(unchanged, { examples: 3 }),
      /meta\.json: examples is 3, but its shards have 2/,
    ],
    [
      'a size that does not fit',
      broken((path) => truncateSync(join(path, '00000.tokens'), 19)),
      /00000\.tokens: it has 19 bytes, but by meta\.json it has 20 bytes/,
    ],
    [
      'a missing file',
      broken(unchanged, { shards: [{ name: '00001', examples: 2, segments: 4, tokens: 10 }] }),
      /00001\.tokens: cannot be read: ENOENT/,
    ],
    ['a kind', broken(set('00000.examples', 2, 3)), /00000\.examples: example 0: there is no kind 3/],
    [
      'segments out of range',
      broken(set('00000.examples', 4, 2)),
      /00000\.examples: example 1: segments 2 to 5 of 4/,
    ],
    ['no segments', broken(set('00000.examples', 1, 0)), /00000\.examples: example 0: segments 0 to 0 of 4/],
    [
      'an unstructured tree',
      broken(set('00000.examples', 6, 2)),
      /example 1: unstructured, but of 3 segments/,
    ],
    [
      'tokens out of range',
      broken(set('00000.segments', 3, 9)),
      /00000\.segments: example 1, segment 0: tokens 9 to 12 of 10/,
    ],
    [
      'an offset beyond 2^31',
      broken(set('00000.segments', 0, 0xffff_fff0)),
      /segment 0: tokens 4294967280 to 4294967282 of 10/,
    ],
    ['an empty segment', broken(set('00000.segments', 1, 0)), /segment 0: tokens 0 to 0 of 10/],
    [
      'a parent behind its child',
      broken(set('00000.segments', 8, 2)),
      /example 1, segment 1: its parent is 2/,
    ],
    [
      'a second root',
      broken(set('00000.segments', 8, 0xffff_ffff)),
      /example 1, segment 1: its parent is none/,
    ],
    ['a root with a parent', broken(set('00000.segments', 2, 0)), /example 0, segment 0: its parent is 0/],
    [
      'a token outside the vocabulary',
      broken(unchanged, { vocab_size: 12 }),
      /00000\.tokens: .*: token 12 of a vocabulary of 12/,
    ],
    [
      'a flag',
      broken((path) => writeFileSync(join(path, '00000.learned'), Buffer.alloc(10, 2))),
      /00000\.learned: example 0, segment 0: 2 is neither 0 nor 1/,
    ],
  ])('%s', async (_, path, reason) => {
    await expect(readAll(path)).rejects.toMatchObject({
      code: 'invalid_request',
      message: expect.stringMatching(reason),
    })
  })
})
