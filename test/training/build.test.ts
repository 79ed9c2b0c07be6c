import { mkdtemp, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { type BuildProgress, buildData } from '../../training/data/build.ts'
import type { Conversation } from '../../training/data/conversation.ts'
import { MASKED, rowSequence, turnsSequence } from '../../training/data/shards/sequence.ts'
import { ShardWriter } from '../../training/data/shards/writer.ts'
import { loadEncoder } from '../../training/data/tokenizer/encode.ts'

const tokenizer = fileURLToPath(new URL('../../models/demo/tokenizer.json', import.meta.url))
const encoder = loadEncoder(await readFile(tokenizer, 'utf8'))
const folder = () => mkdtemp(join(tmpdir(), 'apar-build-'))

const list = (n: number) =>
  Array.from({ length: n }, (_, i) => `${i + 1}. Item ${i + 1}: detail number ${i + 1}`).join('\n')
const conversations: Conversation[] = [
  ...Array.from({ length: 40 }, (_, i) => ({
    id: `l${i}`,
    dialogs: [{ prompt: `List ${i}?`, response: list(3) }],
  })),
  { id: 'plain', dialogs: [{ prompt: 'Short?', response: 'Yes.' }] },
  { id: 'code', dialogs: [{ prompt: 'Code?', response: '```\nx\n```' }] },
  { id: 'few', dialogs: [{ prompt: 'Few?', response: list(2) }] },
  { id: 'marker', dialogs: [{ prompt: 'Q?', response: 'a [Fork] of its own' }] },
]

describe('labels', () => {
  const learned = ({ ids, labels }: { ids: number[]; labels: number[] }) =>
    encoder.decode(ids.filter((_, i) => labels[i] !== MASKED))

  it('masks the prompt of a main row', () => {
    const row = { index: 'a_main', input: 'How?', target: '1. A:[Fork]\n2. B:[Fork]' }
    const sequence = rowSequence(row, encoder)
    expect(encoder.decode(sequence.ids)).toBe('<s>USER: How?\nASSISTANT:\n1. A:[Fork]\n2. B:[Fork]</s>')
    expect(learned(sequence)).toBe('1. A:[Fork]\n2. B:[Fork]</s>')
    for (const [i, label] of sequence.labels.entries()) expect([MASKED, sequence.ids[i]]).toContain(label)
  })

  it('masks a branch row up to and including its [Child]', () => {
    const row = { index: 'a_1', input: 'How?', target: '1. A:[Fork]\n2. B:[Fork][Child] the detail' }
    expect(learned(rowSequence(row, encoder))).toBe(' the detail</s>')
  })

  it('masks prompts but no answers of a conversation', () => {
    const turns = [
      { prompt: 'One?', response: 'First.' },
      { prompt: 'Two?', response: 'Second.' },
    ]
    expect(learned(turnsSequence(turns, encoder))).toBe('First.</s>Second.</s>')
  })

  it('branch rows have the same ids as the main row before their [Child]', () => {
    const main = rowSequence({ index: 'm', input: 'Q', target: 'x:[Fork] y:[Fork] z' }, encoder).ids
    const branch = rowSequence({ index: 'b', input: 'Q', target: 'x:[Fork] y:[Fork][Child] d' }, encoder).ids
    const at = branch.indexOf(encoder.child)
    expect(branch.slice(0, at)).toEqual(main.slice(0, at))
  })
})

describe('shards', () => {
  it('writes ids, labels and row index, and starts a new shard at the limit', async () => {
    const path = await folder()
    const special = { bos: 1, eos: 2, fork: 3, child: 4 }
    const writer = await ShardWriter.open({ folder: path, vocabSize: 70_000, special, maxTokens: 4 })
    await writer.add([
      { ids: [1, 69_999], labels: [MASKED, 69_999] },
      { ids: [1, 5, 2], labels: [MASKED, MASKED, 2] },
    ])
    await writer.add([{ ids: [9], labels: [9] }])
    const meta = await writer.close()
    expect(meta).toMatchObject({ tokens: 'uint32', rows: 3, longest_row: 3, fork: 3 })
    expect(meta.shards).toEqual([
      { name: '00000', rows: 2, tokens: 5 },
      { name: '00001', rows: 1, tokens: 1 },
    ])
    const bytes = await readFile(join(path, '00000.tokens'))
    expect([...new Uint32Array(bytes.buffer, bytes.byteOffset, 5)]).toEqual([1, 69_999, 1, 5, 2])
    const labels = await readFile(join(path, '00000.labels'))
    expect([...new Int32Array(labels.buffer, labels.byteOffset, 5)]).toEqual([-100, 69_999, -100, -100, 2])
    const rows = await readFile(join(path, '00001.rows'))
    expect([...new Uint32Array(rows.buffer, rows.byteOffset, 3)]).toEqual([0, 1, 1])
    expect(JSON.parse(await readFile(join(path, 'meta.json'), 'utf8'))).toEqual(meta)
  })
})

describe('buildData', () => {
  it('writes every file, counts every conversation, and gives the same output again', async () => {
    const out = await folder()
    const stages = new Set<BuildProgress['stage']>()
    const onProgress = ({ stage }: BuildProgress) => stages.add(stage)
    const report = await buildData({ conversations, out, tokenizer, jsonl: true, onProgress, testShare: 0.3 })
    expect(report).toMatchObject({
      conversations: 44,
      lists: 40,
      paragraphs: 0,
      branches: 120,
      unstructured: 2,
      dropped: 2,
      tooLong: 0,
      refused: { paragraphs_too_few: 1, code_fence: 1, list_too_short: 1, marker: 1 },
    })
    expect(stages).toEqual(new Set(['extract', 'tokenizer', 'shards']))
    const json = async (name: string) => JSON.parse(await readFile(join(out, name), 'utf8'))
    const [apar, flat, plain, test] = await Promise.all(
      ['apar.json', 'apar_flatten.json', 'unstructured.json', 'apar_testset.json'].map(json),
    )
    expect(report.heldOut.all).toBeGreaterThan(0)
    expect(test).toHaveLength(report.heldOut.all)
    expect(flat).toHaveLength(40 - report.heldOut.structured)
    expect(apar).toHaveLength(flat.length * 4)
    expect(plain.length + flat.length + test.length).toBe(42)
    const held = new Set(test.map((entry: { prompt: string }) => entry.prompt))
    expect(apar.some((row: { input: string }) => held.has(row.input))).toBe(false)
    const exported = (await readFile(join(out, 'train.jsonl'), 'utf8')).trim().split('\n')
    expect(exported).toHaveLength(report.shards.train.rows)
    expect(Object.keys(JSON.parse(exported[0] ?? ''))).toEqual(['input_ids', 'labels'])

    const again = await folder()
    await buildData({ conversations, out: again, tokenizer, testShare: 0.3 })
    for (const name of ['apar.json', 'apar_testset.json', 'train/00000.tokens', 'serial/00000.labels']) {
      expect(await readFile(join(again, name))).toEqual(await readFile(join(out, name)))
    }
  })

  it('leaves a conversation out of the shards when one of its rows is too long', async () => {
    const report = await buildData({
      conversations,
      out: await folder(),
      tokenizer,
      maxTokens: 20,
      testShare: 0,
    })
    expect(report.tooLong).toBe(40)
    expect(report.shards.train.rows).toBe(2)
  })

  it('refuses a tokenizer without the special tokens', async () => {
    const bare = JSON.parse(await readFile(tokenizer, 'utf8'))
    bare.added_tokens = bare.added_tokens.filter((token: { content: string }) => token.content !== '[Fork]')
    expect(() => loadEncoder(JSON.stringify(bare))).toThrow('the text has no token [Fork]')
  })
})
