import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import Table from 'cli-table3'
import type { Command } from 'commander'
import {
  type BuildStatistics,
  type BuildSummary,
  buildStatistics,
  summaryOf,
} from '../../training/data/inspect/build-statistics.ts'
import type { ShardSummary } from '../../training/data/inspect/shard-statistics.ts'
import { type JsonFlag, print, withJson } from '../json.ts'
import { PLAIN_TABLE, showTable } from '../models/show.ts'
import { plotPng, plotSvg } from '../plot/plot.ts'
import { saying } from '../progress.ts'
import { flat } from '../token-tree/visible.ts'
import { buildPlots } from './histograms.ts'
import { requireBuild } from './require-build.ts'

interface Flags extends JsonFlag {
  out?: string
}

/** Adds `apar data stats`. */
export function registerStats(data: Command): void {
  withJson(data.command('stats'))
    .description('what a build holds: conversations per kind and rule, forks, depths and lengths')
    .argument('<build>', 'folder of a build')
    .option('--out <folder>', 'write histograms there, as SVG and PNG')
    .action(stats)
}

async function stats(build: string, flags: Flags): Promise<void> {
  const { out } = flags
  requireBuild(build)
  const statistics = await saying('reading the build', buildStatistics(build))
  if (out !== undefined) await writePlots(statistics, out)
  const summary = summaryOf(statistics)
  print(flags, summary, () => statisticsTables(summary).trimEnd())
}

async function writePlots(statistics: BuildStatistics, folder: string): Promise<void> {
  await mkdir(folder, { recursive: true })
  const svgs = await Promise.all(
    buildPlots(statistics).map(async ({ file, plot }) => ({ file, svg: await plotSvg(plot) })),
  )
  for (const { file, svg } of svgs) await writeFile(join(folder, `${file}.svg`), svg)
  // Last: an installation may be without what draws them.
  for (const { file, svg } of svgs) await writeFile(join(folder, `${file}.png`), await plotPng(svg))
}

/** Tables of what came of the conversations, what the shards hold and what the rules refused. */
export function statisticsTables({ report, refused, shards }: BuildSummary): string {
  const came = table(
    ['conversations', ''],
    [
      ['in the input', report.conversations],
      ...Object.entries(report.structured).map(([kind, count]): Row => [`structured: ${kind}`, count]),
      ['unstructured', report.unstructured],
      ['left out', report.leftOut],
      ['held out to test', `${report.heldOut.all}, ${report.heldOut.structured} of them structured`],
      ['without later turns: over the context', report.turnsCut],
      ['without a serial copy: over the context', report.serialTooLong],
      ...Object.entries(report.faults).map(([fault, count]): Row => [`fault: ${flat(fault)}`, count]),
    ],
  )
  const held = table(
    ['shards', 'train', 'test'],
    FIGURES.map(([name, of]) => [name, of(shards.train), of(shards.test)]),
  )
  const lengths = table(
    ['of train', 'min', 'mean', 'p50', 'p90', 'p99', 'max'],
    LENGTHS.flatMap(([name, of]): Row[] => {
      const found = of(shards.train)
      return found
        ? [[name, found.min, found.mean.toFixed(1), found.p50, found.p90, found.p99, found.max]]
        : []
    }),
  )
  const rules = table(
    ['refused as structured by', 'unstructured', 'left out'],
    refused.map(({ rule, unstructured, leftOut, sentence }) => [
      flat(rule),
      unstructured,
      leftOut,
      flat(sentence),
    ]),
  )
  const tables = refused.length > 0 ? [came, held, lengths, rules] : [came, held, lengths]
  return `${tables.join('\n\n')}\n`
}

type Row = [name: string, ...(string | number)[]]

/** Numbers to the right, sentences (a fourth column of three named ones) to the left. */
function table(head: string[], rows: Row[]): string {
  const columns = Math.max(head.length, ...rows.map((row) => row.length))
  const names = Array.from({ length: columns }, (_, at) => head[at] ?? '')
  const colAligns = names.map((_, at) =>
    at === 0 || at >= head.length ? ('left' as const) : ('right' as const),
  )
  const made = new Table({ ...PLAIN_TABLE, head: names, colAligns })
  made.push(...rows)
  return showTable(made)
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
