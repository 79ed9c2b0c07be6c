import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Tokenizer } from '@huggingface/tokenizers'
import { packageRoot } from '../../gpu-node/package-root.ts'

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

/** Writes shards of version 2 as their description says (training/data/shards/writer.ts), not by the builder's own writer. */
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
    bos: null,
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

const tokenizerJson = JSON.parse(readFileSync(join(packageRoot, 'models/demo/tokenizer.json'), 'utf8'))
const tokenizer = new Tokenizer(tokenizerJson, { clean_up_tokenization_spaces: false })
const encode = (text: string): number[] => tokenizer.encode(text, { add_special_tokens: false }).ids
export const [bos = 0, eos = 0, fork = 0, child = 0] = ['<s>', '</s>', '[Fork]', '[Child]'].map((token) =>
  tokenizer.token_to_id(token),
)

const written = (ids: number[]) => ({ ids, learned: ids.map(() => 1) })

/** A prompt (masked), and an answer as a tree: every item's detail is a branch. */
export function listExample(source: number, prompt: string, items: readonly Item[] = ITEMS): WrittenExample {
  const promptIds = encode(`<s>USER: ${prompt}\nASSISTANT:\n`)
  const segments: WrittenSegment[] = []
  let parent: number | undefined
  for (const [at, { title, detail }] of items.entries()) {
    const main = written([...encode(`${at > 0 ? '\n' : ''}${at + 1}. ${title}:`), fork])
    const full =
      at === 0
        ? { ids: [...promptIds, ...main.ids], learned: [...promptIds.map(() => 0), ...main.learned] }
        : main
    const own = segments.push({ ...full, ...(parent === undefined ? {} : { parent }) }) - 1
    const branch = written([...encode(detail), eos])
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
  const promptIds = encode(`<s>USER: ${prompt}\nASSISTANT:\n`)
  const answerIds = [...encode(answer), eos]
  const learned = [...promptIds.map(() => 0), ...answerIds.map(() => 1)]
  return { kind, source, segments: [{ ids: [...promptIds, ...answerIds], learned }] }
}

export const LIST_TEXT = ITEMS.map(
  ({ title, detail }, at) => `${at > 0 ? '\n' : ''}${at + 1}. ${title}:${detail}`,
).join('')

/** A build folder: a list (with its serial copy) and an unstructured answer to train on, a list to test, three refused. */
export function tinyBuild(): string {
  const build = mkdtempSync(join(tmpdir(), 'apar-tiny-build-'))
  mkdirSync(join(build, 'model'))
  for (const name of ['tokenizer.json', 'tokenizer_config.json']) {
    copyFileSync(join(packageRoot, 'models/demo', name), join(build, 'model', name))
  }
  const meta = { vocab_size: tokenizer.get_vocab().size, eos: [eos], fork, child, bos }
  const train = [
    [listExample(0, 'Which fruit?'), plainExample(0, 'Which fruit?', LIST_TEXT, 1)],
    [plainExample(1, 'Why?', 'So.')],
  ]
  writeShardFolder(join(build, 'train'), train, meta)
  writeShardFolder(join(build, 'test'), [[listExample(2, 'Name three fruits.')]], meta)
  const examples = [
    { id: 'fruit', kind: 'list', split: 'train', prompt: 'Which fruit?' },
    { id: 'three', kind: 'list', split: 'test', prompt: 'Name three fruits.' },
    { id: 'why', kind: 'unstructured', split: 'train', prompt: 'Why?' },
  ]
  const numbering = { rule: 'list_numbering', reason: 'list numbers that are not consecutive' }
  const refused = [
    { id: 'bad-list', ...numbering, file: 'in.jsonl', line: 7 },
    { id: 'empty', rule: 'template', reason: 'the template says no', file: 'in.jsonl', line: 8 },
    { id: 'bad-list-2', ...numbering, file: 'in.jsonl', line: 9 },
  ]
  const report = {
    format: 'apar-build',
    version: 1,
    conversations: 6,
    structured: { list: 2 },
    unstructured: 1,
    leftOut: 3,
    heldOut: { all: 1, structured: 1 },
    refused: { list_numbering: 2, no_structure: 1, template: 1 },
    faults: { byte_order_mark: 1 },
    turnsCut: 0,
    serialTooLong: 1,
  }
  writeLines(join(build, 'examples.jsonl'), examples)
  writeLines(join(build, 'refused.jsonl'), refused)
  writeFileSync(join(build, 'report.json'), JSON.stringify(report))
  return build
}

function writeLines(file: string, values: readonly unknown[]): void {
  writeFileSync(file, values.map((value) => `${JSON.stringify(value)}\n`).join(''))
}
