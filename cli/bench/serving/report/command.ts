import { basename } from 'node:path'
import type { Command } from 'commander'
import { z } from 'zod'
import { badLine } from '../../../../training/data/conversation.ts'
import { readJsonValues } from '../../../../training/data/input/json-values.ts'
import { UserError } from '../../../explain.ts'
import { folder } from '../../../options.ts'
import type { NodeReading } from '../load/node-metrics.ts'
import type { TimeLine } from './batch-plot.ts'
import { type PublishFlags, publish, VERSION } from './publish.ts'
import { CellSummary } from './summary.ts'

/** A line for each reading of the node's metrics. */
const TimeLineReading = z.looseObject({
  type: z.literal('node'),
  mode: z.string(),
  rate: z.number().nullable(),
  concurrency: z.number().nullable(),
  limits: z.record(z.string(), z.number()).optional(),
  round: z.number(),
  at_ms: z.number(),
  steps: z.number().optional(),
  generated_tokens: z.number().optional(),
  prefill_tokens: z.number().optional(),
})

type TimeLineReading = z.infer<typeof TimeLineReading>

const Line = z.discriminatedUnion('type', [
  z.looseObject({
    type: z.literal('run'),
    version: z.literal(VERSION),
    title: z.string(),
    where: z.string(),
  }),
  z.object({ type: z.literal('request') }),
  TimeLineReading,
  CellSummary.extend({ type: z.literal('summary') }),
])

/** Adds `apar bench report`. */
export function registerBenchReport(bench: Command): void {
  bench
    .command('report')
    .description('puts several runs of apar bench serving beside each other: servers, sizes of the KV cache')
    .argument('<files...>', 'of apar bench serving --out; NAME=FILE names a run')
    .option('--markdown <file>', 'write the tables there')
    .option('--plots <folder>', 'write plots over what the runs differ in there, as SVG and PNG', folder)
    .option('--json', 'print the figures as JSON instead of tables')
    .action(report)
}

async function report(files: string[], flags: PublishFlags): Promise<void> {
  const cells: CellSummary[] = []
  const timeLines = new TimeLines()
  const facts: string[] = []
  for (const spec of files) {
    const [, name, file = spec] = /^([^=/]+)=(.*)$/.exec(spec) ?? []
    const run = name ?? basename(file).replace(/\.jsonl(\.\w+)?$/, '')
    const before = cells.length
    for await (const { value, line } of readJsonValues(file)) {
      const { success, data } = Line.safeParse(value)
      if (!success) throw badLine(file, line, 'expected a line of apar bench serving --out, of this version')
      if (data.type === 'run') facts.push(`${run}: ${data.title}; ${data.where}`)
      if (data.type === 'node') timeLines.add(run, data)
      if (data.type === 'summary') {
        const { type, ...cell } = data
        cells.push({ ...cell, run })
      }
    }
    if (cells.length === before)
      throw new UserError('invalid_option', `${file}: has no figures: its run has not ended`)
  }
  const title = [...new Set(cells.map(({ run }) => run))].join(' · ')
  await publish({ title, facts }, { runs: facts }, { cells, timeLines: timeLines.all }, flags)
}

/** Readings that belong together. */
class TimeLines {
  readonly #byCell = new Map<string, TimeLine & { readings: NodeReading[] }>()

  add(run: string, { type, mode, rate, concurrency, limits, round, ...reading }: TimeLineReading): void {
    const cell = { run, mode, rate, concurrency, limits, round }
    const key = JSON.stringify(cell)
    const timeLine = this.#byCell.get(key) ?? { ...cell, readings: [] }
    this.#byCell.set(key, timeLine)
    timeLine.readings.push(reading)
  }

  get all(): TimeLine[] {
    return [...this.#byCell.values()]
  }
}
