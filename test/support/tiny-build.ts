import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { packageRoot } from '../../gpu-node/package-root.ts'
import { loadEncoder } from '../../training/data/tokenizer/encode.ts'

export interface WrittenSegment {
  parent?: number
  ids: number[]
  learned: number[]
}

export interface WrittenExample {
  kind: 0 | 1 | 2
  source: number
  segments: WrittenSegment[]
}

const NONE = 0xffff_ffff

/** Writes shards of version 2 as their description says (training/data/shards/meta.ts), not by the builder's own writer. */
export function writeShardFolder(
  folder: string,
  shards: readonly (readonly WrittenExample[])[],
  meta: Record<string, unknown> = {},
): void {
  mkdirSync(folder, { recursive: true })
  const numbers = (values: number[]) => new Uint8Array(Uint32Array.from(values).buffer)
  const wide = meta.tokens === 'uint32'
  const entries = shards.map((examples, at) => {
    const name = String(at).padStart(5, '0')
    const segments = examples.flatMap((example) => example.segments)
    const ids = segments.flatMap((segment) => segment.ids)
    let offset = 0
    const segmentNumbers = segments.flatMap(({ ids, parent = NONE }) => {
      offset += ids.length
      return [offset - ids.length, ids.length, parent]
    })
    let first = 0
    const exampleNumbers = examples.flatMap(({ segments, kind, source }) => {
      first += segments.length
      return [first - segments.length, segments.length, kind, source]
    })
    const tokens = wide ? Uint32Array.from(ids) : Uint16Array.from(ids)
    writeFileSync(join(folder, `${name}.tokens`), new Uint8Array(tokens.buffer))
    writeFileSync(
      join(folder, `${name}.learned`),
      Uint8Array.from(segments.flatMap(({ learned }) => learned)),
    )
    writeFileSync(join(folder, `${name}.segments`), numbers(segmentNumbers))
    writeFileSync(join(folder, `${name}.examples`), numbers(exampleNumbers))
    return { name, examples: examples.length, segments: segments.length, tokens: ids.length }
  })
  const all = shards.flat()
  const ofKind = (wanted: number) => all.filter(({ kind }) => kind === wanted).length
  const full = {
    format: 'apar-shards',
    version: 2,
    tokens: 'uint16',
    vocab_size: 4096,
    eos: [2],
    fork: 3,
    child: 4,
    examples: all.length,
    longest_example: Math.max(0, ...all.map(({ segments }) => segments.flatMap(({ ids }) => ids).length)),
    longest_path: 0,
    kinds: { structured: ofKind(0), serial: ofKind(1), unstructured: ofKind(2) },
    shards: entries,
    ...meta,
  }
  writeFileSync(join(folder, 'meta.json'), JSON.stringify(full))
}

export interface Item {
  title: string
  detail: string
}

export const ITEMS: readonly Item[] = [
  { title: 'Apples', detail: ' they are red and keep all winter.' },
  { title: 'Pears', detail: ' softer, and quickly over.' },
  { title: 'Plums', detail: ' dark blue, 日本 grows them too.' },
]

const encoder = loadEncoder(readFileSync(join(packageRoot, 'models/demo/tokenizer.json'), 'utf8'))
export const { fork, child, eos } = encoder

const written = (ids: number[]) => ({ ids, learned: ids.map(() => 1) })

/** A prompt (masked), and an answer as a tree: every item's detail is a branch. */
export function listExample(source: number, prompt: string, items: readonly Item[] = ITEMS): WrittenExample {
  const promptIds = encoder.encode(`<s>USER: ${prompt}\nASSISTANT:\n`)
  const segments: WrittenSegment[] = []
  let parent: number | undefined
  for (const [at, { title, detail }] of items.entries()) {
    const main = written([...encoder.encode(`${at > 0 ? '\n' : ''}${at + 1}. ${title}:`), fork])
    const full =
      at === 0
        ? { ids: [...promptIds, ...main.ids], learned: [...promptIds.map(() => 0), ...main.learned] }
        : main
    const own = segments.push({ ...full, ...(parent === undefined ? {} : { parent }) }) - 1
    const branch = written([...encoder.encode(detail), eos])
    segments.push({ parent: own, ids: [child, ...branch.ids], learned: [0, ...branch.learned] })
    parent = own
  }
  segments.push({ parent: parent ?? 0, ...written([eos]) })
  return { kind: 0, source, segments }
}

export function plainExample(
  source: number,
  prompt: string,
  answer: string,
  kind: 1 | 2 = 2,
): WrittenExample {
  const promptIds = encoder.encode(`<s>USER: ${prompt}\nASSISTANT:\n`)
  const answerIds = [...encoder.encode(answer), eos]
  const learned = [...promptIds.map(() => 0), ...answerIds.map(() => 1)]
  return { kind, source, segments: [{ ids: [...promptIds, ...answerIds], learned }] }
}

export const LIST_TEXT = ITEMS.map(
  ({ title, detail }, at) => `${at > 0 ? '\n' : ''}${at + 1}. ${title}:${detail}`,
).join('')

/** A build folder: a list (with its serial copy) and an unstructured answer to train on, one of each to test, two refused. */
export function tinyBuild(): string {
  const build = mkdtempSync(join(tmpdir(), 'apar-tiny-build-'))
  mkdirSync(join(build, 'model'))
  for (const name of ['tokenizer.json', 'tokenizer_config.json']) {
    copyFileSync(join(packageRoot, 'models/demo', name), join(build, 'model', name))
  }
  const meta = { vocab_size: encoder.vocabSize, eos: [eos], fork, child, bos: encoder.bos }
  const train = [
    [listExample(0, 'Which fruit?'), plainExample(0, 'Which fruit?', LIST_TEXT, 1)],
    [plainExample(1, 'Why?', 'So.')],
  ]
  writeShardFolder(join(build, 'train'), train, meta)
  writeShardFolder(join(build, 'test'), [[listExample(2, 'Name three fruits.')]], meta)
  const parts = ITEMS.map(({ title, detail }, at) => ({
    text: `${at > 0 ? '\n' : ''}${at + 1}. ${title}:`,
    detail: [{ text: detail }],
  }))
  const examples = [
    { id: 'fruit', kind: 'list', split: 'train', prompt: 'Which fruit?', parts },
    {
      id: 'why',
      kind: 'unstructured',
      split: 'train',
      prompt: 'Why?',
      turns: [{ prompt: 'Why?', response: 'So.' }],
    },
    { id: 'three', kind: 'list', split: 'test', prompt: 'Name three fruits.', parts },
    { id: 'too-long', kind: 'paragraphs', split: 'train', prompt: 'At length?', parts: NESTED },
  ]
  const refused = [
    { id: 'bad-list', rule: 'list_numbering', reason: 'list numbers that are not consecutive', line: 7 },
    { id: 'empty', rule: 'empty_answer', reason: 'the first answer is empty' },
    { id: 'bad-list-2', rule: 'list_numbering', reason: 'list numbers that are not consecutive', line: 9 },
  ]
  writeLines(join(build, 'examples.jsonl'), examples)
  writeLines(join(build, 'refused.jsonl'), refused)
  return build
}

/** A detail that has details itself; this conversation is not in the shards. */
export const NESTED = [
  { text: 'First:', detail: [{ text: ' a', detail: [{ text: ' a1' }] }, { text: ' b' }] },
  { text: '\nSecond:', detail: [{ text: ' c' }] },
  { text: '\nEnd.' },
]

function writeLines(file: string, values: readonly unknown[]): void {
  writeFileSync(file, values.map((value) => `${JSON.stringify(value)}\n`).join(''))
}
