import { setTimeout as sleep } from 'node:timers/promises'
import { percentile } from '../../cli/bench/percentile.ts'
import type { BenchCase, SampleFile } from '../report.ts'
import { type PacedStack, startPacedStack } from './paced-stack.ts'
import { FLAT_PERCENT, growthPercent, type ProcessUsage, processUsage } from './process-usage.ts'
import { readOverEdge, readOverNode, type StreamPlan } from './stream-readers.ts'

const TOKENS_PER_SECOND = 12
const BRANCHES = 4
const SAMPLE_MS = 1_000

export interface StreamsSize {
  readonly streams: number
  /** Duration of one stream; when it ends, a new one replaces it. */
  readonly streamSeconds: number
  /** Duration of the measurement after the first streams have ended: directly, and through the edge. */
  readonly directSeconds: number
  readonly seconds: number
}

type Read = typeof readOverEdge
interface Phase {
  /** Lateness of each letter in ms. */
  readonly late: number[]
  /**
   * Streams whose letters of the last second were late by more than a step in the median: a single late letter
   * does not count.
   */
  fellBehind: number
  ended: number
  readonly usage: ProcessUsage[]
}

/**
 * Measures many concurrent streams of four branches at reading speed: first from the gpu node directly, then
 * through the edge. All branches of all streams step at the same moment, as in one engine's batch.
 */
export async function manyStreams(size: StreamsSize, file: SampleFile): Promise<BenchCase[]> {
  const stack = await startPacedStack(1000 / TOKENS_PER_SECOND)
  try {
    const direct = await run(stack, { ...size, seconds: size.directSeconds }, 'node', readOverNode, file)
    const edge = await run(stack, size, 'edge', readOverEdge, file)
    return cases(size, direct, edge)
  } finally {
    await stack.close()
  }
}

async function run(
  stack: PacedStack,
  size: StreamsSize,
  over: string,
  read: Read,
  file: SampleFile,
): Promise<Phase> {
  const phase: Phase = { late: [], fellBehind: 0, ended: 0, usage: [] }
  const { streams, streamSeconds, seconds } = size
  const begun = performance.now()
  const elapsed = () => (performance.now() - begun) / 1000
  const lastStart = streamSeconds + seconds
  const maxTokens = Math.round(streamSeconds * TOKENS_PER_SECOND) * BRANCHES
  const place = async (index: number) => {
    await sleep((index / streams) * streamSeconds * 1000)
    while (elapsed() < lastStart) {
      const plan: StreamPlan = { seed: nextSeed++, branches: BRANCHES, maxTokens }
      const late = await read(stack, plan)
      phase.late.push(...late)
      phase.ended++
      if (percentile(late.slice(-TOKENS_PER_SECOND * BRANCHES), 50) > stack.stepMs) phase.fellBehind++
      file.add({ bench: 'edge', case: `${streams} streams`, over, ...plan, ...summary(late) })
    }
  }
  const watch = setInterval(() => {
    if (elapsed() < streamSeconds || elapsed() > lastStart) return
    const usage = processUsage([...stack.edgeProcesses, stack.nodeProcess])
    phase.usage.push(usage)
    file.add({ bench: 'edge', case: `${streams} streams`, over, seconds: elapsed(), ...usage })
  }, SAMPLE_MS)
  await Promise.all(Array.from({ length: streams }, (_, index) => place(index)))
  clearInterval(watch)
  console.error(`edge: ${phase.ended} streams over the ${over}, ${JSON.stringify(summary(phase.late))}`)
  return phase
}

let nextSeed = 1

function summary(late: readonly number[]) {
  const at = (percent: number) => Number(percentile(late, percent).toFixed(2))
  return { letters: late.length, p50: at(50), p99: at(99), worst: at(100) }
}

function cases({ streams }: StreamsSize, direct: Phase, edge: Phase): BenchCase[] {
  const name = `${streams} WebSocket streams, ${BRANCHES} branches each, ${TOKENS_PER_SECOND} tokens/s per branch`
  const row = (what: string, value: number, unit: string, goal: number | null): BenchCase => {
    return { case: `${name}: ${what}`, value: Number(value.toPrecision(4)), unit, better: 'lower', goal }
  }
  const later = (percent: number) => percentile(edge.late, percent) - percentile(direct.late, percent)
  const [last] = edge.usage.slice(-1)
  return [
    row('later than from the gpu node directly, p50', later(50), 'ms', null),
    row('later than from the gpu node directly, p99', later(99), 'ms', 100),
    row('streams that fell behind', edge.fellBehind, 'streams', 0),
    row('growth of memory', growthPercent(edge.usage.map(({ rssMiB }) => rssMiB)), '%', FLAT_PERCENT),
    row('memory of edge and gpu node', last?.rssMiB ?? Number.NaN, 'MiB', null),
  ]
}
