import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { AparError } from '../../../shared/errors.ts'
import { RULES } from '../extract/structure.ts'
import type { Split } from '../pipeline/batch.ts'
import { BUILD_RULES } from '../pipeline/counts.ts'
import { RefusedRecord, readRecords } from './build-records.ts'
import { type ShardStatistics, type ShardSummary, shardStatistics } from './shard-statistics.ts'

/** Every rule by its name, with what it says. */
export const buildRules: Readonly<Record<string, string>> = Object.assign(
  Object.create(null),
  RULES,
  BUILD_RULES,
)

const Count = z.int().min(0)
/** What is read of report.json; `refused` counts also answers that teach as unstructured text. */
const Report = z.object({
  conversations: Count,
  structured: z.record(z.string(), Count),
  unstructured: Count,
  leftOut: Count,
  heldOut: z.object({ all: Count, structured: Count }),
  refused: z.record(z.string(), Count),
  faults: z.record(z.string(), Count),
  turnsCut: Count,
  serialTooLong: Count,
})
type Report = z.infer<typeof Report>

export interface RuleCount {
  rule: string
  /** What the rule says. */
  sentence: string
  /** Answers that it refused as structured: those that teach as unstructured text, and those that were left out. */
  unstructured: number
  leftOut: number
}

/** What a build folder holds. */
export interface BuildStatistics {
  report: Omit<Report, 'refused'>
  /** The most frequent rule first. */
  refused: RuleCount[]
  shards: Record<Split, ShardStatistics>
}

export interface BuildSummary extends Omit<BuildStatistics, 'shards'> {
  shards: Record<Split, ShardSummary>
}

/**
 * Reads a build once, record by record.
 * @throws AparError `invalid_request`, naming the file, when a part of it is missing or broken.
 */
export async function buildStatistics(build: string): Promise<BuildStatistics> {
  const { refused, ...report } = await readReport(join(build, 'report.json'))
  const rules = await ruleCounts(refused, join(build, 'refused.jsonl'))
  const train = await shardStatistics(join(build, 'train'))
  const test = await shardStatistics(join(build, 'test'))
  return { report, refused: rules, shards: { train, test } }
}

export function summaryOf({ shards, ...others }: BuildStatistics): BuildSummary {
  return { ...others, shards: { train: shards.train.toJson(), test: shards.test.toJson() } }
}

async function readReport(file: string): Promise<Report> {
  const refuse = (reason: string): never => {
    throw new AparError('invalid_request', `${file}: ${reason}`)
  }
  const text = await readFile(file, 'utf8').catch((error: Error) =>
    refuse(`cannot be read: ${error.message}`),
  )
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    refuse('not valid JSON')
  }
  const { data, error } = Report.safeParse(value)
  const [issue] = error?.issues ?? []
  return data ?? refuse(`not the report of a build: ${issue?.path.join('.')}: ${issue?.message}`)
}

async function ruleCounts(refused: Report['refused'], file: string): Promise<RuleCount[]> {
  const leftOut = new Map<string, { count: number; reason: string }>()
  for await (const { rule, reason } of readRecords(file, RefusedRecord)) {
    const known = leftOut.get(rule) ?? { count: 0, reason }
    leftOut.set(rule, { ...known, count: known.count + 1 })
  }
  return Object.entries(refused)
    .sort((a, b) => b[1] - a[1])
    .map(([rule, all]) => {
      const { count = 0, reason = '' } = leftOut.get(rule) ?? {}
      return {
        rule,
        sentence: buildRules[rule] ?? reason,
        unstructured: Math.max(0, all - count),
        leftOut: count,
      }
    })
}
