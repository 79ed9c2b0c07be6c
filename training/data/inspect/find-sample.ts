import { join } from 'node:path'
import { AparError } from '../../../shared/errors.ts'
import type { Segment } from '../../../shared/token-tree.ts'
import type { Split } from '../pipeline/batch.ts'
import { type ShardExample, ShardReader } from '../shards/reader.ts'
import { ExampleRecord, RefusedRecord, readRecords, type SampleKind } from './build-records.ts'
import { segmentsOf } from './example-segments.ts'
import { TokenNames } from './token-names.ts'

/** An example of a build's shards. */
export interface Sample {
  readonly split: Split
  /** Undefined for an example that was found by its number. */
  readonly record?: ExampleRecord
  readonly example: ShardExample
  readonly segments: readonly Segment[]
}

/** The example with this number in the shards of a split; `random`: any. Only this example is read. */
export async function sampleByNumber(
  build: string,
  split: Split,
  number: number | 'random',
): Promise<Sample> {
  return withShards(build, split, async (reader) => {
    const example = await reader.example(number === 'random' ? randomBelow(reader.meta.examples) : number)
    return sampleOf(build, split, example, reader)
  })
}

/** The conversation with this id, or undefined. */
export async function sampleById(build: string, id: string): Promise<Sample | undefined> {
  for await (const place of conversations(build)) if (place.record.id === id) return sampleAt(build, place)
  return undefined
}

/** The first conversation of a kind, or a random one; undefined when there is none. */
export async function sampleOfKind(
  build: string,
  kind: SampleKind,
  random: boolean,
): Promise<Sample | undefined> {
  let chosen: Place | undefined
  let seen = 0
  for await (const place of conversations(build)) {
    if (place.record.kind !== kind) continue
    seen += 1
    if (randomBelow(seen) === 0) chosen = place
    if (!random) break
  }
  return chosen && sampleAt(build, chosen)
}

/** Why a conversation was left out; undefined when it was not. */
export async function refusalOf(build: string, id: string): Promise<RefusedRecord | undefined> {
  for await (const record of readRecords(join(build, 'refused.jsonl'), RefusedRecord)) {
    if (record.id === id) return record
  }
  return undefined
}

/** The first `most` conversations that were left out by a rule, or as many random ones; and how many there are. */
export async function leftOutBy(build: string, rule: string, most: number, random: boolean) {
  const records: RefusedRecord[] = []
  let count = 0
  for await (const record of readRecords(join(build, 'refused.jsonl'), RefusedRecord)) {
    if (record.rule !== rule) continue
    count += 1
    if (records.length < most) records.push(record)
    else if (random && randomBelow(count) < most) records[randomBelow(most)] = record
  }
  return { count, records }
}

/** A line of examples.jsonl, and how many lines of the same split come before it. */
interface Place {
  readonly record: ExampleRecord
  readonly before: number
}

async function* conversations(build: string): AsyncGenerator<Place> {
  const counts = { train: 0, test: 0 }
  for await (const record of readRecords(join(build, 'examples.jsonl'), ExampleRecord)) {
    yield { record, before: counts[record.split]++ }
  }
}

/**
 * The shards of a split have one example for each of its lines, in the same order, and serial copies behind the
 * structured ones.
 */
async function sampleAt(build: string, { record, before }: Place): Promise<Sample> {
  const { split } = record
  return withShards(build, split, async (reader) => {
    let seen = 0
    for await (const { kind, number } of reader.heads()) {
      if (kind === 'serial' || seen++ < before) continue
      if ((kind === 'unstructured') !== (record.kind === 'unstructured')) break
      return { ...sampleOf(build, split, await reader.example(number), reader), record }
    }
    const reason = `the shards in ${split} do not belong to examples.jsonl: ${JSON.stringify(record.id)} is not there`
    throw new AparError('invalid_request', `${build}: ${reason}`)
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

function sampleOf(build: string, split: Split, example: ShardExample, { meta }: ShardReader): Sample {
  const segments = segmentsOf(example, meta, TokenNames.read(join(build, 'model')))
  return { split, example, segments }
}

function randomBelow(count: number): number {
  return Math.floor(Math.random() * count)
}
