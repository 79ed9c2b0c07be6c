import { firstToken } from './edge/first-token.ts'
import { manyStreams, type StreamsSize } from './edge/streams.ts'
import { type BenchOptions, type BenchResult, commit, machine, SampleFile } from './report.ts'

const REPETITIONS = 1000
const QUICK_REPETITIONS = 60
const STREAMS: StreamsSize = { streams: 400, streamSeconds: 15, seconds: 45 }
const QUICK_STREAMS: StreamsSize = { streams: 40, streamSeconds: 3, seconds: 6 }

/**
 * What the edge costs: a gpu node with a paced engine, so that neither a model's speed nor its noise is in the figures,
 * called directly and through the edge, with a key that has every limit.
 */
export async function edge({ quick }: BenchOptions): Promise<BenchResult> {
  const file = new SampleFile('edge')
  const cases = [
    ...(await firstToken(quick ? QUICK_REPETITIONS : REPETITIONS, file)),
    ...(await manyStreams(quick ? QUICK_STREAMS : STREAMS, file)),
  ]
  return { bench: 'edge', commit: commit(), machine: machine(), samples: file.path, cases }
}
