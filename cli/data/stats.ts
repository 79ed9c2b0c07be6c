import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import Table from 'cli-table3'
import type { Command } from 'commander'
import {
  type BuildStatistics,
  buildStatistics,
  summaryOf,
} from '../../training/data/inspect/build-statistics.ts'
import type { ShardSummary } from '../../training/data/inspect/shard-statistics.ts'
import { PLAIN_TABLE, showTable } from '../models/show.ts'
import { plotPng, plotSvg } from '../plot/plot.ts'
import { flat } from '../token-tree/visible.ts'
import { buildPlots } from './histograms.ts'

interface Flags {
  json?: true
  out?: string
}

/** Adds `apar data stats`. */
export function registerStats(data: Command): void {
  data
    .command('stats')
    .description('what a build holds: conversations per kind and rule, forks, depths and lengths')
    .argument('<build>', 'folder of a build')
    .option('--json', 'print one JSON object')
    .option('--out <folder>', 'write histograms there, as SVG and PNG')
    .action(stats)
}

async function stats(build: string, { json, out }: Flags): Promise<void> {
  const statistics = await buildStatistics(build)
  if (out !== undefined) await writePlots(statistics, out)
  const summary = summaryOf(statistics)
  process.stdout.write(json ? `${JSON.stringify(summary)}\n` : statisticsTables(summary))
}

async function writePlots(statistics: BuildStatistics, folder: string): Promise<void> {
  await mkdir(folder, { recursive: true })
  for (const { file, plot } of buildPlots(statistics)) {
    const svg = await plotSvg(plot)
    await writeFile(join(folder, `${file}.svg`), svg)
    await writeFile(join(folder, `${file}.png`), await plotPng(svg))
  }
}

/** Tables of what was kept, what the shards hold and what was left out. */
export function statisticsTables({ kept, refused, shards }: ReturnType<typeof summaryOf>): string {
  const kinds = new Table({
    ...PLAIN_TABLE,
    head: ['kept', 'train', 'test'],
    colAligns: ['left', 'right', 'right'],
  })
  for (const [kind, count] of Object.entries(kept.train)) {
    kinds.push([kind, count, kept.test[kind as keyof typeof kept.test]])
  }
  const held = new Table({
    ...PLAIN_TABLE,
    head: ['shards', 'train', 'test'],
    colAligns: ['left', 'right', 'right'],
  })
  for (const [name, of] of FIGURES) held.push([name, of(shards.train), of(shards.test)])

  const lengths = new Table({
    ...PLAIN_TABLE,
    head: ['train', 'min', 'mean', 'p50', 'p90', 'p99', 'max'],
    colAligns: ['left', ...(Array(6).fill('right') as 'right'[])],
  })
  for (const [name, of] of LENGTHS) {
    const found = of(shards.train)
    if (!found) continue
    const { min, mean, p50, p90, p99, max } = found
    lengths.push([name, min, mean.toFixed(1), p50, p90, p99, max])
  }
  const tables = [kinds, held, lengths]
  if (refused.length > 0) {
    const rules = new Table({
      ...PLAIN_TABLE,
      head: ['left out by', 'count', 'because of'],
      colAligns: ['left', 'right', 'left'],
    })
    for (const { rule, sentence, count } of refused) rules.push([flat(rule), count, flat(sentence)])
    tables.push(rules)
  }
  return `${tables.map(showTable).join('\n\n')}\n`
}

const FIGURES: readonly [string, (shards: ShardSummary) => string | number][] = [
  ['structured examples', ({ examples }) => examples.structured],
  ['serial examples', ({ examples }) => examples.serial],
  ['unstructured examples', ({ examples }) => examples.unstructured],
  ['tokens', ({ tokens }) => tokens],
  ['learned', ({ learned_share }) => percent(learned_share)],
  ['in branches (of structured answers)', ({ branch_share }) => percent(branch_share)],
  ['ideal speed-up (of structured answers)', ({ ideal_speedup }) => factor(ideal_speedup)],
]

const LENGTHS: readonly [string, (shards: ShardSummary) => ShardSummary['tokens_per_example']][] = [
  ['forks per structured answer', ({ forks_per_answer }) => forks_per_answer],
  ['depth of branches', ({ branch_depth }) => branch_depth],
  ['tokens per example', ({ tokens_per_example }) => tokens_per_example],
  ['tokens per path', ({ tokens_per_path }) => tokens_per_path],
  ['tokens per segment', ({ tokens_per_segment }) => tokens_per_segment],
]

function percent(share: number | null): string {
  return share === null ? '' : `${(100 * share).toFixed(1)} %`
}

function factor(value: number | null): string {
  return value === null ? '' : `${value.toFixed(2)}x`
}
