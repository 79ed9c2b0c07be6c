import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { parseJson } from '../../shared/parse.ts'
import { UserError } from '../explain.ts'

/** The trainer's metrics: training/torch/apar_train/run/metrics.py writes them. */
const Line = z.looseObject({ step: z.int().min(0) })
const Begun = z.looseObject({
  event: z.enum(['begun', 'resumed']),
  parameters: z.int(),
  trained: z.int(),
  examples: z.int(),
})

export interface RunLog {
  /** The first line of the run. */
  readonly begun: z.infer<typeof Begun>
  /** By the name of a metric: its values in the order of steps. */
  readonly series: ReadonlyMap<string, readonly Point[]>
}

export interface Point {
  readonly step: number
  readonly value: number
}

/** @throws UserError `invalid_option` for a folder without a log; AparError for one that is broken */
export function readRunLog(run: string): RunLog {
  const file = join(run, 'log.jsonl')
  if (!existsSync(file)) {
    throw new UserError(
      'invalid_option',
      `${file} does not exist: ${run} is no --run of apar train sft or medusa`,
    )
  }
  let begun: RunLog['begun'] | undefined
  const series = new Map<string, Point[]>()
  for (const text of readFileSync(file, 'utf8').split('\n')) {
    // A line that is being written has no end yet.
    if (!text.endsWith('}')) continue
    const line = parseJson(Line, text)
    if (typeof line.event === 'string') begun ??= Begun.parse(line)
    else addTo(series, line)
  }
  if (begun === undefined) throw new UserError('invalid_option', `${file} does not say how the run began`)
  return { begun, series }
}

function addTo(series: Map<string, Point[]>, { step, ...values }: z.infer<typeof Line>): void {
  for (const [name, value] of Object.entries(values)) {
    if (typeof value !== 'number') continue
    const points = series.get(name) ?? []
    series.set(name, points)
    points.push({ step, value })
  }
}

/** The first and the last value of a metric. */
export function ends({ series }: RunLog, name: string): { first: number; last: number } | undefined {
  const points = series.get(name)
  const [first, last] = [points?.[0], points?.at(-1)]
  return first && last && { first: first.value, last: last.value }
}
