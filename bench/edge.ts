import { firstToken } from './edge/first-token.ts'
import { manyStreams, type StreamsSize } from './edge/streams.ts'
import { type BenchCase, type BenchOptions, type BenchResult, commit, machine, SampleFile } from './report.ts'

const REPETITIONS = 500
const QUICK_REPETITIONS = 60
/** workerd keeps the object of an ended stream for up to 70 s, so memory can be flat only after that time. */
const STREAMS: StreamsSize = { streams: 400, streamSeconds: 8, directSeconds: 4, seconds: 240 }
const QUICK_STREAMS: StreamsSize = { streams: 40, streamSeconds: 3, directSeconds: 3, seconds: 6 }

/**
 * Measures the overhead of the edge: a gpu node with a paced engine, which removes a model's speed and noise from
 * the figures, is called directly and through the edge, with a key that has every kind of limit.
 */
export function edge(options: BenchOptions): Promise<BenchResult> {
  return report(options, [first, streams])
}

/** The parts of `edge` as separate benches: each is short enough to keep the machine otherwise idle. */
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
