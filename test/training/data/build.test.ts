import { spawn } from 'node:child_process'
import { appendFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative, resolve } from 'node:path'
import { build as bundle } from 'esbuild'
import { describe, expect, it, onTestFinished } from 'vitest'
import { type BuildOptions, type BuildReport, buildData } from '../../../training/data/build.ts'
import type { Turn } from '../../../training/data/conversation.ts'
import { customProfile, PROFILES } from '../../../training/data/extract/profile.ts'
import { referenceFiles } from '../../../training/data/extract/reference/files.ts'
import { mergeBuilds } from '../../../training/data/merge.ts'

const folder = await mkdtemp(join(tmpdir(), 'apar-build-'))
let made = 0
const place = (name: string) => join(folder, `${made++}-${name}`)

type Record = { id?: string; dialogs: Turn[]; group?: string }
function input(records: readonly Record[]): string {
  const path = place('input.jsonl')
  writeFileSync(path, records.map((record) => JSON.stringify(record)).join('\n'))
  return path
}

const TOKENIZER = { file: 'models/demo/tokenizer.json' }
const build = (options: Partial<BuildOptions>): Promise<BuildReport> =>
  buildData({ out: place('out'), model: TOKENIZER, threads: 0, ...options })

const list = (n: number, what = 'detail') =>
  Array.from({ length: n }, (_, i) => `${i + 1}. Item ${i + 1}: ${what} number ${i + 1}`).join('\n')
const asked = (id: string, prompt: string, response: string): Record => ({
  id,
  dialogs: [{ prompt, response }],
})

/** Every file of a folder with its bytes. */
function contents(path: string): { [name: string]: string } {
  const entries = readdirSync(path, { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  )
  return Object.fromEntries(
    entries
      .map((entry) => join(entry.parentPath, entry.name))
      .map((name) => [relative(path, name), readFileSync(name).toString('latin1')]),
  )
}

const records: Record[] = [
  ...Array.from({ length: 40 }, (_, i) => asked(`l${i}`, `List ${i}?`, list(3))),
  asked('plain', 'Short?', 'Yes.'),
  asked('code', 'Code?', '```\nx\n```'),
  asked('l7', 'Again?', 'The same id.'),
  asked('none', 'Empty?', ' '),
]

describe('a build', () => {
  it('leaves out answers that did not end by themselves', async () => {
    const answers = ['stop', 'length', 'repeats'].map((finish_reason) => {
      return { ...asked(finish_reason, `${finish_reason}?`, list(3)), finish_reason }
    })
    const report = await build({ files: [input(answers)], out: place('out'), strict: true })
    expect(report).toMatchObject({ structured: { list: 1 }, leftOut: 2, refused: { cut_off: 2 } })
  })

  it('ends such answers before they repeat themselves, when asked', async () => {
    const items = list(4)
    const response = `${items}.\n5. Item 2: something else is said of it.\n6. It`
    const answers = [
      { ...asked('circles', 'Circles?', response), finish_reason: 'repeats' },
      { ...asked('little', 'Little?', 'It is'), finish_reason: 'length' },
    ]
    const profile = customProfile({ trimCutOff: true })
    const out = place('out')
    const report = await build({ files: [input(answers)], out, profile, testShare: 0 })
    expect(report).toMatchObject({
      structured: { list: 1 },
      branches: 4,
      leftOut: 1,
      refused: { cut_off: 1 },
    })
    expect(readFileSync(join(out, 'apar.json'), 'utf8')).not.toContain('something else')
  })

  it('writes every file and counts every conversation', async () => {
    const out = place('out')
    const report = await build({ files: [input(records)], out, jsonl: true, testShare: 0.3 })
    expect(report).toMatchObject({
      ...{ conversations: 44, structured: { list: 40 }, unstructured: 2, leftOut: 2, branches: 120 },
      ...{ depths: { 2: 40 }, refused: { duplicate_id: 1, no_turn: 1 } },
      faults: { duplicate_id: 1, empty_turn: 1, no_turn: 1 },
    })
    const files = contents(out)
    expect(
      Object.keys(files)
        .filter((name) => !name.startsWith('model/'))
        .sort(),
    ).toEqual([
      ...[
        'apar.json',
        'apar_flatten.json',
        'apar_testset.json',
        'examples.jsonl',
        'refused.jsonl',
        'report.json',
      ],
      ...[
        'test.jsonl',
        'test/00000.examples',
        'test/00000.learned',
        'test/00000.segments',
        'test/00000.tokens',
      ],
      ...[
        'test/meta.json',
        'train.jsonl',
        'train/00000.examples',
        'train/00000.learned',
        'train/00000.segments',
      ],
      ...['train/00000.tokens', 'train/meta.json', 'unstructured.json'],
    ])
    expect(JSON.parse(files['report.json'] ?? '')).toEqual(report)
    const json = (name: string) => JSON.parse(files[name] ?? '')
    const lines = (name: string) =>
      (files[name] ?? '')
        .split('\n')
        .slice(0, -1)
        .map((line) => JSON.parse(line))
    const { all, structured } = report.heldOut
    expect(all).toBeGreaterThan(0)
    expect(json('apar_testset.json')).toHaveLength(all)
    expect(json('apar_flatten.json')).toHaveLength(40 - structured)
    expect(json('apar.json')).toHaveLength(4 * (40 - structured))
    expect(json('unstructured.json')).toHaveLength(2 - (all - structured))
    const held = new Set(json('apar_testset.json').map(({ prompt }: { prompt: string }) => prompt))
    expect(json('apar.json').some(({ input }: { input: string }) => held.has(input))).toBe(false)
    expect(lines('examples.jsonl')).toHaveLength(42)
    expect(lines('refused.jsonl')).toMatchObject([
      { id: 'l7', rule: 'duplicate_id', line: 43 },
      { id: 'none', rule: 'no_turn', line: 44 },
    ])
    const { train } = report.shards
    expect(train.kinds).toMatchObject({ structured: 40 - structured, serial: 40 - structured })
    expect(lines('train.jsonl')).toHaveLength(4 * train.kinds.structured + train.kinds.unstructured)
    expect(json('train/meta.json')).toEqual(train)
    const [shard] = train.shards
    expect((files['train/00000.tokens'] ?? '').length).toBe(2 * (shard?.tokens ?? 0))
    expect((files['train/00000.learned'] ?? '').length).toBe(shard?.tokens)
    expect((files['train/00000.segments'] ?? '').length).toBe(12 * (shard?.segments ?? 0))
    expect((files['train/00000.examples'] ?? '').length).toBe(16 * train.examples)
  })

  it('gives the same bytes in threads', async () => {
    const files = [input(records)]
    const [one, two] = [place('one'), place('two')]
    await build({ files, out: one, testShare: 0.3 })
    await build({ files, out: two, testShare: 0.3, threads: 2 })
    expect(contents(two)).toEqual(contents(one))
  })

  it('leaves out text that is no Unicode, and counts it', async () => {
    const out = place('out')
    const lone = asked('lone', 'Half a smile?', 'Here: \ud83d')
    const paired = asked('paired', 'A smile?', 'Here: \ud83d\ude00')
    const report = await build({ files: [input([lone, paired])], out, testShare: 0 })
    expect(report).toMatchObject({
      ...{ faults: { lone_surrogate: 1 }, leftOut: 1, unstructured: 1 },
      refused: { lone_surrogate: 1, no_structure: 1 },
    })
    expect(JSON.parse(readFileSync(join(out, 'refused.jsonl'), 'utf8'))).toMatchObject({
      ...{ id: 'lone', rule: 'lone_surrogate', line: 1 },
    })
  })

  it('leaves out what is longer than the context, before any row is made', async () => {
    const stones = asked('stones', 'How do I build a wall?', list(6_000, 'carry one more stone up the hill'))
    const out = place('out')
    const report = await build({ files: [input([stones, asked('short', 'x', list(3))])], out, testShare: 0 })
    expect(report).toMatchObject({ refused: { over_context: 1 }, structured: { list: 1 } })
    const files = contents(out)
    expect(JSON.parse(files['refused.jsonl'] ?? '')).toMatchObject({
      id: 'stones',
      rule: 'over_context',
      line: 1,
    })
    expect(files['apar.json']).not.toContain('stone')
    // Rows that would fill the disk are refused even where the context is long enough.
    const large = await build({ files: [input([stones])], context: 1_000_000, testShare: 0 })
    expect(large.refused).toEqual({ rows_too_large: 1 })
  })

  it('keeps leading turns that fit', async () => {
    const turn = { prompt: 'Tell me more?', response: 'A few more words.' }
    const report = await build({
      files: [input([{ id: 'a', dialogs: Array(100).fill(turn) }])],
      context: 200,
      testShare: 0,
    })
    expect(report).toMatchObject({ turnsCut: 1, unstructured: 1 })
    expect(report.shards.train.longest_path).toBeLessThanOrEqual(200)
  })

  it('uses structured answers of later turns when asked to', async () => {
    const dialogs = [
      { prompt: 'Hi', response: 'Hello.' },
      { prompt: 'List?', response: list(3) },
    ]
    const files = [input([{ id: 'a', dialogs }])]
    const out = place('out')
    const first = await build({ files, testShare: 0 })
    const all = await build({ files, out, turns: 'all', testShare: 0 })
    expect([first.structured, all.structured]).toEqual([{}, { list: 1 }])
    const [, line] = readFileSync(join(out, 'examples.jsonl'), 'utf8').split('\n')
    expect(JSON.parse(line ?? '')).toMatchObject({
      id: 'a/turn-2',
      earlier: [dialogs[0]],
      prompt: 'List?',
      kind: 'list',
    })
  })

  it.each([
    ['duplicate_id', [asked('a', 'x', 'y'), asked('a', 'x', 'y')], ':2: the id was seen before'],
    ['empty_turn', [asked('a', 'x', '')], ':1: an empty question or answer'],
    ['lone_surrogate', [asked('a', 'x', '\udc00')], ':1: half of a surrogate pair'],
  ])('with strict, a fault is an error: %s', async (_, faulty, message) => {
    await expect(build({ files: [input(faulty)], strict: true })).rejects.toThrow(message)
  })

  it.each([
    ['no conversations', [], 'no conversations in'],
    ['a record of another shape', [{ text: 'x' } as unknown as Record], ':1: none of the known shapes'],
  ])('refuses %s', async (_, wrong, message) => {
    await expect(build({ files: [input(wrong)] })).rejects.toThrow(message)
  })

  it('refuses a file that is missing, and a tokenizer without [Fork]', async () => {
    await expect(build({ files: ['/nowhere/x.jsonl'] })).rejects.toThrow('/nowhere/x.jsonl does not exist')
    const file = place('tokenizer.json')
    writeFileSync(file, readFileSync(TOKENIZER.file, 'utf8').replaceAll('[Fork]', '[F]'))
    await expect(build({ files: [input(records)], model: { file } })).rejects.toThrow('has no token [Fork]')
  })
})

describe('a folder that is not a build', () => {
  const [record] = records
  const files = [input(record ? [record] : [])]

  it.each([
    ['in its place', '', { 'notes.txt': 'mine' }, 'it is not empty (notes.txt) and not a build'],
    ['with a report of another program', '', { 'report.json': '{}' }, 'report.json) and not a build'],
    ['where the earlier build is put', '.old', { 'notes.txt': 'mine' }, 'notes.txt'],
    ['where the new build is made', '.building', { 'notes.txt': 'mine' }, 'notes.txt'],
  ])('is left as it is: %s', async (_, ending, theirs, message) => {
    const out = place('out')
    const folder = `${out}${ending}`
    mkdirSync(folder)
    for (const [name, text] of Object.entries(theirs)) writeFileSync(join(folder, name), text)
    await expect(build({ files, out })).rejects.toMatchObject({
      code: 'foreign_folder',
      message: expect.stringContaining(message),
    })
    expect(contents(folder)).toEqual(theirs)
  })

  it('nor one with other files than those of a build, such as its input', async () => {
    const out = place('out')
    await build({ files, out })
    await build({ files, out })
    writeFileSync(join(out, 'plot.svg'), '')
    await build({ files, out })
    mkdirSync(join(out, 'forking'))
    await expect(build({ files, out })).rejects.toThrow('it has forking, which no build writes')
    rmSync(join(out, 'forking'), { recursive: true })
    const own = join(out, 'raw.jsonl')
    writeFileSync(own, readFileSync(files[0] ?? ''))
    await expect(build({ files: [own], out })).rejects.toThrow('raw.jsonl, which is read for it')
    expect(readFileSync(own, 'utf8')).toContain('l0')
  })
})

describe('the profile reference', () => {
  it("writes the reference's files, and shards of the same test set", async () => {
    const out = place('out')
    const { profile, shards, heldOut } = await build({
      files: [input(records)],
      out,
      profile: PROFILES.reference,
    })
    expect(profile.name).toBe('reference')
    const conversations = records.map(({ id = '', dialogs }) => ({ id, dialogs }))
    for (const [name, pieces] of Object.entries(referenceFiles(conversations))) {
      if (name !== 'parsed.json' && name !== 'train.json')
        expect([name, readFileSync(join(out, name), 'utf8')]).toEqual([name, [...pieces].join('')])
    }
    const testSet = JSON.parse(readFileSync(join(out, 'apar_testset.json'), 'utf8'))
    expect(testSet.length).toBeGreaterThan(2)
    expect([heldOut.structured, shards.test.kinds.structured]).toEqual([testSet.length, testSet.length])
  })
})

/** Four batches, most of them bytes that are left out at once. */
const many = Array.from({ length: 400 }, (_, i) =>
  asked(`m${i}`, `Number ${i}?`, i % 4 === 0 ? list(3 + (i % 5)) : `</s> ${'So it is. '.repeat(600)}`),
)

describe('a build that fails or is cut', () => {
  it('leaves the earlier one whole', async () => {
    const out = place('out')
    await build({ files: [input(records)], out })
    const before = contents(out)
    const truncated = place('truncated.jsonl')
    writeFileSync(truncated, `${JSON.stringify(records[0])}\n{"id": "b", "dial`)
    await expect(build({ files: [truncated], out })).rejects.toThrow(`${truncated}:2: not valid JSON`)
    expect(contents(out)).toEqual(before)
    await build({ files: [input(many.slice(0, 50))], out })
    expect(contents(out)['apar_flatten.json']).toContain('"m4"')
  })

  it('goes on where it was, whatever it had written since', async () => {
    const files = [input(many)]
    const whole = place('whole')
    await build({ files, out: whole })
    const out = place('cut')
    let batches = 0
    const cut = build({
      ...{ files, out, checkpointMs: 0 },
      onProgress: ({ stage }) => {
        if (stage === 'conversations' && ++batches === 3) throw new Error('cut')
      },
    })
    await expect(cut).rejects.toThrow('cut')
    for (const name of ['apar.json', 'examples.jsonl', 'train/00000.segments'])
      appendFileSync(join(`${out}.building`, name), 'half a rec')
    const resumed = new Set<number>()
    await build({ files, out, onProgress: ({ resumed: count }) => resumed.add(count) })
    expect(Math.max(...resumed)).toBeGreaterThan(0)
    expect(contents(out)).toEqual(contents(whole))
    // Another build does not go on from it.
    const other = await build({ files, out, seed: 2 })
    expect(other.conversations).toBe(400)
  })

  it('at any moment, by SIGKILL', { timeout: 240_000 }, async () => {
    const files = [input(many)]
    const whole = place('whole')
    await build({ files, out: whole })
    // Within the package, whose files it reads.
    const script = resolve(`dist/killed-build-${process.pid}.mjs`)
    onTestFinished(() => rmSync(script))
    await bundle({
      stdin: {
        contents: `import { buildData } from './training/data/build.ts'
          await buildData({ ...JSON.parse(process.argv[2]), onProgress: ({ done }) => console.log(done) })`,
        resolveDir: process.cwd(),
        loader: 'ts',
      },
      ...{ outfile: script, bundle: true, platform: 'node', format: 'esm', logLevel: 'warning' },
      banner: {
        js: "import { createRequire } from 'node:module'; const require = createRequire(process.cwd() + '/');",
      },
    })
    const out = place('killed')
    const options = JSON.stringify({
      files,
      out,
      model: { file: resolve(TOKENIZER.file) },
      threads: 0,
      checkpointMs: 0,
    })
    /** Kills the build when it has told of `lines` steps; true when it ended by itself before. */
    const run = (lines: number): Promise<boolean> =>
      new Promise((done, reject) => {
        const child = spawn(process.execPath, [script, options], { stdio: ['ignore', 'pipe', 'inherit'] })
        let seen = 0
        child.stdout.on('data', (text: Buffer) => {
          seen += text.toString().split('\n').length - 1
          if (seen >= lines) child.kill('SIGKILL')
        })
        child.on('close', (code, signal) =>
          code === 0 ? done(true) : signal ? done(false) : reject(new Error(`ended with ${code}`)),
        )
      })
    let kills = 0
    for (let lines = 1; !(await run(lines)); lines++) kills++
    expect(kills).toBeGreaterThan(1)
    expect(contents(out)).toEqual(contents(whole))
  })
})

describe('parts of a build', () => {
  it('are joined to what one build gives, in another order', async () => {
    const files = [input(many.slice(0, 300))]
    const whole = place('whole')
    const report = await build({ files, out: whole, jsonl: true })
    const parts = [place('a'), place('b'), place('c')]
    for (const [index, out] of parts.entries())
      await build({ files, out, jsonl: true, shard: { index, count: 3 } })
    const out = place('merged')
    const merged = await mergeBuilds([...parts].reverse(), out)
    const { shards: mergedShards, ...counts } = merged
    const { shards, ...expected } = report
    expect(counts).toEqual(expected)
    const sum = (meta: typeof shards.train) => meta.shards.reduce((total, { tokens }) => total + tokens, 0)
    expect(sum(mergedShards.train)).toBe(sum(shards.train))
    expect(mergedShards.train.kinds).toEqual(shards.train.kinds)
    expect(mergedShards.train.longest_path).toBe(shards.train.longest_path)
    const sorted = (name: string) => (path: string) =>
      JSON.parse(readFileSync(join(path, name), 'utf8'))
        .map((each: unknown) => JSON.stringify(each))
        .sort()
    for (const name of ['apar.json', 'apar_testset.json'])
      expect(sorted(name)(out)).toEqual(sorted(name)(whole))
    expect(Object.keys(contents(out))).toContain('train/00002.tokens')
    await expect(mergeBuilds(parts.slice(0, 2), place('x'))).rejects.toThrow('part 3 of 3 is missing')
    await expect(mergeBuilds([parts[0] ?? '', parts[0] ?? ''], place('x'))).rejects.toThrow(
      'is part 1 of 3, not 2 of 3',
    )
    await expect(mergeBuilds([folder], place('x'))).rejects.toThrow('is no build')
  })
})
