import type { Plot } from '../../../plot/plot.ts'
import type { NodeReading } from '../load/node-metrics.ts'
import { labelOf } from '../load/sample.ts'

/** More readings than this are put together. */
const POINTS = 200

/** What a node did over the time of one measurement. */
export interface TimeLine {
  readonly run?: string | undefined
  readonly mode: string
  readonly rate: number | null
  readonly concurrency: number | null
  readonly limits?: Readonly<Record<string, number>> | undefined
  readonly round: number
  readonly readings: readonly NodeReading[]
}

/** A point of the plot: tokens per step over the time between two readings. */
interface BatchPoint {
  readonly seconds: number
  readonly tokens: number
}

/** Tokens in the batch over time: a line for each mode and round, one field below the other for all else that varies. */
export function batchPlot(timeLines: readonly TimeLine[], subtitle: string): Plot | undefined {
  const values = timeLines.flatMap(({ run, mode, round, readings, ...load }) => {
    const of = labelOf({ mode: run ?? '', ...load }).replace(/^, /, '')
    return batchPoints(readings).map((point) => ({ ...point, mode, round, of }))
  })
  if (values.length === 0) return undefined
  const fields = [...new Set(values.map(({ of }) => of))]
  return {
    ...{ width: 560, height: fields.length > 1 ? 130 : 260 },
    title: { text: 'Tokens in the batch', subtitle },
    data: { values },
    mark: { type: 'line', interpolate: 'step-before' },
    encoding: {
      x: { field: 'seconds', type: 'quantitative', title: 'seconds since the begin of the load' },
      y: { field: 'tokens', type: 'quantitative', title: 'tokens per step' },
      color: { field: 'mode', type: 'nominal', title: null, sort: null },
      detail: { field: 'round' },
      ...(fields.length > 1 && {
        row: {
          field: 'of',
          title: null,
          sort: fields,
          header: { labelAngle: 0, labelOrient: 'top', labelAnchor: 'start' },
        },
      }),
    },
  }
}

/** Decoded and prompt tokens by step, 0 where none was made; no points of a node that does not count its steps. */
export function batchPoints(readings: readonly NodeReading[]): BatchPoint[] {
  const every = Math.ceil(readings.length / POINTS)
  const kept = readings.filter((_, index) => index % every === 0 || index === readings.length - 1)
  const points: BatchPoint[] = []
  for (const [index, reading] of kept.entries()) {
    const before = kept[index - 1]
    if (before?.steps === undefined || reading.steps === undefined) continue
    const steps = reading.steps - before.steps
    const tokens = steps > 0 ? (tokensOf(reading) - tokensOf(before)) / steps : 0
    // The line begins with the load.
    if (points.length === 0) points.push({ seconds: 0, tokens })
    points.push({ seconds: reading.at_ms / 1000, tokens })
  }
  return points
}

function tokensOf({ generated_tokens = 0, prefill_tokens = 0 }: NodeReading): number {
  return generated_tokens + prefill_tokens
}
