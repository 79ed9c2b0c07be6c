import { firstToken } from './edge/first-token.ts'
import { manyStreams, type StreamsSize } from './edge/streams.ts'
import { type BenchCase, type BenchOptions, type BenchResult, commit, machine, SampleFile } from './report.ts'

const REPETITIONS = 500
const QUICK_REPETITIONS = 60
/** Workerd keeps an ended stream's object for up to 70 s: memory can be flat only after that. */
const STREAMS: StreamsSize = { streams: 400, streamSeconds: 8, directSeconds: 4, seconds: 240 }
const QUICK_STREAMS: StreamsSize = { streams: 40, streamSeconds: 3, directSeconds: 3, seconds: 6 }

/**
 * What the edge costs: a gpu node with a paced engine, so that neither a model's speed nor its noise is in the figures,
 * called directly and through the edge, with a key that has every limit.
 */
export function edge(options: BenchOptions): Promise<BenchResult> {
  return report(options, [first, streams])
}

/** Its parts alone: each is short enough to keep everything else on the machine quiet meanwhile. */
export function edgeFirst(options: BenchOptions): Promise<BenchResult> {
  return report(options, [first])
}
export function edgeStreams(options: BenchOptions): Promise<BenchResult> {
  return report(options, [streams])
}

type Part = (options: BenchOptions, file: SampleFile) => Promise<BenchCase[]>

const first: Part = ({ quick }, file) => firstToken(quick ? QUICK_REPETITIONS : REPETITIONS, file)
const streams: Part = ({ quick }, file) => manyStreams(quick ? QUICK_STREAMS : STREAMS, file)

async function report(options: BenchOptions, parts: readonly Part[]): Promise<BenchResult> {
  const file = new SampleFile('edge')
  const cases: BenchCase[] = []
  for (const part of parts) cases.push(...(await part(options, file)))
  return { bench: 'edge', commit: commit(), machine: machine(), samples: file.path, cases }
}
