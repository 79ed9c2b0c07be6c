import { percentile } from '../../cli/bench/percentile.ts'
import { type BenchCase, median } from '../report.ts'
import type { Run, SideName } from './side.ts'

/** The runs of a repetition. */
export type Turn = ReadonlyMap<SideName, Run>

const BUSY_STREAMS = 16
/** With many streams; one stream has no goal. */
const GOALS = { vllmOutput: 1.5, vllmFirstToken: 0.2, openVinoOutput: 1.3 }

/** Tokens of all answers per second. */
export function outputRate({ seconds, answers }: Run): number {
  return answers.reduce((sum, { output_tokens }) => sum + output_tokens, 0) / seconds
}

/** Median time to the first token, in ms (nearest rank). */
export function firstToken({ answers }: Run): number {
  return (
    percentile(
      answers.map(({ ttft_ms }) => ttft_ms),
      50,
    ) ?? Number.NaN
  )
}

/** The rows of one load: each figure of ours beside each peer's, then the ratios, which are of one turn each. */
export function summarise(title: string, streams: number, turns: readonly Turn[]): BenchCase[] {
  const goal = (figure: number) => (streams >= BUSY_STREAMS ? figure : null)
  const rows = [
    figure(`${title}: output`, turns, 'ours', outputRate, OUTPUT),
    figure(`${title}: TTFT p50`, turns, 'ours', firstToken, TTFT),
  ]
  for (const peer of ['vLLM', 'OpenVINO'] as const) {
    if (!turns.some((turn) => turn.has(peer))) continue
    // OpenVINO has no server: its time to the first token leaves out what ours has in it.
    const isServer = peer === 'vLLM'
    rows.push(figure(`${title}: output of ${peer}`, turns, peer, outputRate, OUTPUT))
    rows.push(figure(`${title}: TTFT p50 of ${peer}`, turns, peer, firstToken, TTFT))
    const output = isServer ? GOALS.vllmOutput : GOALS.openVinoOutput
    const times = `${title}: times ${isServer ? "vLLM's output" : "OpenVINO's output in process"}`
    rows.push(ratio(times, turns, peer, outputRate, 'higher', goal(output)))
    if (isServer) {
      const share = `${title}: TTFT p50, share of vLLM's`
      rows.push(ratio(share, turns, peer, firstToken, 'lower', goal(GOALS.vllmFirstToken)))
    }
  }
  return rows
}

/** Share of the greedy answers that have the same text as the peer's. */
export function agreement(title: string, ours: Run, peer: SideName, theirs: Run): BenchCase {
  const same = ours.answers.filter(({ text }, index) => text === theirs.answers[index]?.text).length
  const value = round(same / ours.answers.length)
  const name = `${title}: greedy answers with the same text as ${peer}'s`
  return { case: name, value, unit: 'share', better: 'higher', goal: null }
}

type Of = (run: Run) => number
const OUTPUT = { unit: 'tok/s', better: 'higher' } as const
const TTFT = { unit: 'ms', better: 'lower' } as const

function figure(
  name: string,
  turns: readonly Turn[],
  side: SideName,
  of: Of,
  kind: Pick<BenchCase, 'unit' | 'better'>,
): BenchCase {
  return { case: name, ...kind, goal: null, ...spread(turns.map((turn) => of(runOf(turn, side)))) }
}

function ratio(
  name: string,
  turns: readonly Turn[],
  peer: SideName,
  of: Of,
  better: BenchCase['better'],
  goal: number | null,
): BenchCase {
  const ratios = turns.map((turn) => of(runOf(turn, 'ours')) / of(runOf(turn, peer)))
  return { case: name, unit: 'x', better, goal, ...spread(ratios) }
}

function runOf(turn: Turn, side: SideName): Run {
  const run = turn.get(side)
  if (!run) throw new Error(`${side} was not measured in each turn`)
  return run
}

function spread(values: readonly number[]): Pick<BenchCase, 'value' | 'low' | 'high'> {
  return { value: round(median(values)), low: round(Math.min(...values)), high: round(Math.max(...values)) }
}

function round(value: number): number {
  return Number(value.toPrecision(4))
}
