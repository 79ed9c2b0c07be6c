import { join } from 'node:path'
import type { TokenTree } from '../../../shared/token-tree.ts'
import { type ShardExample, ShardReader } from '../shards/reader.ts'
import { type ExampleKind, ExampleRecord, RefusedRecord, readRecords } from './build-records.ts'
import { treeOfExample, treeOfRecord } from './sample-tree.ts'
import { TokenNames } from './token-names.ts'

export type Split = 'train' | 'test'

/** A conversation of a build: as its record, as an example of the shards, or both. */
export interface Sample {
  readonly split: Split
  /** Undefined for an example that was found by its number in the shards. */
  readonly record?: ExampleRecord
  /** Undefined for a conversation that is not in the shards. */
  readonly example?: ShardExample
  readonly segments: TokenTree['segments']
}

/** The example with this number in the shards of a split; `random`: any. Only this example is read. */
export async function sampleByNumber(
  build: string,
  split: Split,
  number: number | 'random',
): Promise<Sample> {
  return withShards(build, split, async (reader) => {
    const example = await reader.example(number === 'random' ? randomBelow(reader.meta.examples) : number)
    return { split, example, segments: segmentsOf(build, example, reader) }
  })
}

/** The conversation with this id, or undefined. */
export async function sampleById(build: string, id: string): Promise<Sample | undefined> {
  for await (const { record, index } of readRecords(examplesFile(build), ExampleRecord, JSON.stringify(id))) {
    if (record.id === id) return sampleOfRecord(build, record, index)
  }
  return undefined
}

/** The first conversation of a kind, or a random one; undefined when there is none. */
export async function sampleOfKind(
  build: string,
  kind: ExampleKind,
  random: boolean,
): Promise<Sample | undefined> {
  let chosen: { record: ExampleRecord; index: number } | undefined
  let seen = 0
  for await (const found of readRecords(examplesFile(build), ExampleRecord, JSON.stringify(kind))) {
    if (found.record.kind !== kind) continue
    seen += 1
    if (randomBelow(seen) === 0) chosen = found
    if (!random) break
  }
  return chosen && sampleOfRecord(build, chosen.record, chosen.index)
}

/** Why a conversation was left out; undefined when it was not. */
export async function refusalOf(build: string, id: string): Promise<RefusedRecord | undefined> {
  for await (const { record } of readRecords(refusedFile(build), RefusedRecord, JSON.stringify(id))) {
    if (record.id === id) return record
  }
  return undefined
}

/** The first `most` conversations that a rule refused, or as many random ones; and how many there are. */
export async function refusedBy(build: string, rule: string, most: number, random: boolean) {
  const records: RefusedRecord[] = []
  let count = 0
  for await (const { record } of readRecords(refusedFile(build), RefusedRecord, JSON.stringify(rule))) {
    if (record.rule !== rule) continue
    count += 1
    if (records.length < most) records.push(record)
    else if (random && randomBelow(count) < most) records[randomBelow(most)] = record
  }
  return { count, records }
}

async function sampleOfRecord(build: string, record: ExampleRecord, source: number): Promise<Sample> {
  const { split } = record
  return withShards(build, split, async (reader) => {
    // A conversation may be there twice: structured first, then in serial form.
    for await (const head of reader.heads()) {
      if (head.source !== source) continue
      const example = await reader.example(head.number)
      return { split, record, example, segments: segmentsOf(build, example, reader) }
    }
    return { split, record, segments: treeOfRecord(record) }
  })
}

async function withShards<T>(
  build: string,
  split: Split,
  use: (reader: ShardReader) => Promise<T>,
): Promise<T> {
  const reader = await ShardReader.open(join(build, split))
  try {
    return await use(reader)
  } finally {
    await reader.close()
  }
}

function segmentsOf(build: string, example: ShardExample, { meta }: ShardReader): TokenTree['segments'] {
  return treeOfExample(example, meta, TokenNames.read(join(build, 'model')))
}

function randomBelow(count: number): number {
  return Math.floor(Math.random() * count)
}

function examplesFile(build: string): string {
  return join(build, 'examples.jsonl')
}

function refusedFile(build: string): string {
  return join(build, 'refused.jsonl')
}
