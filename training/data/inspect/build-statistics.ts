import { join } from 'node:path'
import { z } from 'zod'
import { RULES } from '../extract/structure.ts'
import { EXAMPLE_KINDS, type ExampleKind, RefusedRecord, readRecords } from './build-records.ts'
import type { Split } from './find-sample.ts'
import { type ShardStatistics, type ShardSummary, shardStatistics } from './shard-statistics.ts'

/** What is counted of a line of examples.jsonl. */
const Kept = z.looseObject({ kind: z.enum(EXAMPLE_KINDS), split: z.enum(['train', 'test']) })

export interface RuleCount {
  rule: string
  /** What the rule says, as in the rules or else as the first record has it. */
  sentence: string
  count: number
}

/** What a build folder holds. */
export interface BuildStatistics {
  /** Conversations that were kept. */
  kept: Record<Split, Record<ExampleKind, number>>
  /** Conversations that were left out, the most frequent rule first. */
  refused: RuleCount[]
  shards: Record<Split, ShardStatistics>
}

export interface BuildSummary {
  kept: BuildStatistics['kept']
  refused: RuleCount[]
  shards: Record<Split, ShardSummary>
}

/**
 * Reads a build once, record by record.
 * @throws AparError `invalid_request`, naming the file, when a part of it is missing or broken.
 */
export async function buildStatistics(build: string): Promise<BuildStatistics> {
  const none = () => Object.fromEntries(EXAMPLE_KINDS.map((kind) => [kind, 0])) as Record<ExampleKind, number>
  const kept = { train: none(), test: none() }
  for await (const { record } of readRecords(join(build, 'examples.jsonl'), Kept)) {
    kept[record.split][record.kind] += 1
  }
  const train = await shardStatistics(join(build, 'train'))
  const test = await shardStatistics(join(build, 'test'))
  return { kept, refused: await refusedByRule(build), shards: { train, test } }
}

export function summaryOf({ kept, refused, shards }: BuildStatistics): BuildSummary {
  return { kept, refused, shards: { train: shards.train.toJson(), test: shards.test.toJson() } }
}

async function refusedByRule(build: string): Promise<RuleCount[]> {
  const rules = new Map<string, RuleCount>()
  for await (const { record } of readRecords(join(build, 'refused.jsonl'), RefusedRecord)) {
    const { rule, reason } = record
    const known: RuleCount = rules.get(rule) ?? { rule, sentence: sentenceOf(rule) ?? reason, count: 0 }
    rules.set(rule, { ...known, count: known.count + 1 })
  }
  return [...rules.values()].sort((a, b) => b.count - a.count)
}

/** Undefined for what is no rule of the extraction. */
export function sentenceOf(rule: string): string | undefined {
  return Object.hasOwn(RULES, rule) ? RULES[rule as keyof typeof RULES] : undefined
}
