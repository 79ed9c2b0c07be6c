import { setTimeout as sleep } from 'node:timers/promises'
import { percentile } from '../../cli/bench/percentile.ts'
import { packageRoot } from '../../gpu-node/package-root.ts'
import type { BenchCase, SampleFile } from '../report.ts'
import { type Answer, ask, type Service, startService } from './service.ts'

const STREAMS = 240
/** Long enough for a decode rate; the demo model ends many answers itself. */
const MAX_TOKENS = 200

/** What one stream of a key gets while another key keeps 240 streams busy, and what both get together. */
export async function otherKeys(quick: boolean, file: SampleFile): Promise<BenchCase[]> {
  const streams = quick ? 64 : STREAMS
  const seconds = quick ? 3 : 15
  const service = await startService(2, `${packageRoot}/models/demo`)
  try {
    const [light = '', heavy = ''] = service.keys
    await answers(service, light, 1)
    const alone = await answers(service, light, seconds)
    const stop = new AbortController()
    const load = Array.from({ length: streams }, (_, stream) => keepBusy(service, heavy, stream, stop.signal))
    await sleep(quick ? 2_000 : 5_000)
    const before = await tokensPerSecond(service, () => sleep(seconds * 1000))
    let beside: Answer[] = []
    const during = await tokensPerSecond(service, async () => {
      beside = await answers(service, light, seconds)
    })
    stop.abort()
    await Promise.all(load)
    add(file, 'alone', alone)
    add(file, 'beside', beside)
    return cases(streams, alone, beside, during / before)
  } finally {
    await service.close()
  }
}

let asked = 0

/** Requests of one stream, one after the other. */
async function answers(service: Service, key: string, seconds: number): Promise<Answer[]> {
  const until = performance.now() + seconds * 1000
  const all: Answer[] = []
  while (performance.now() < until)
    all.push(await ask(service, key, `Tell me about number ${asked++} of the list.`, MAX_TOKENS))
  return all
}

async function keepBusy(service: Service, key: string, stream: number, signal: AbortSignal): Promise<void> {
  for (let turn = 0; !signal.aborted; turn++) {
    await ask(service, key, `Stream ${stream} asks for answer ${turn}.`, MAX_TOKENS, signal).catch(
      (error) => {
        if (!signal.aborted) throw error
      },
    )
  }
}

async function tokensPerSecond(service: Service, during: () => Promise<unknown>): Promise<number> {
  const [tokens, begun] = [await service.generatedTokens(), performance.now()]
  await during()
  return ((await service.generatedTokens()) - tokens) / ((performance.now() - begun) / 1000)
}

function add(file: SampleFile, what: string, samples: readonly Answer[]): void {
  for (const sample of samples) file.add({ bench: 'hostile', case: 'other keys', what, ...sample })
}

function cases(
  streams: number,
  alone: readonly Answer[],
  beside: readonly Answer[],
  throughput: number,
): BenchCase[] {
  const ttft = (of: readonly Answer[]) =>
    percentile(
      of.map(({ begunAt, firstAt }) => firstAt - begunAt),
      50,
    )
  const rate = (of: readonly Answer[]) => percentile(of.map(decodeRate).filter(Number.isFinite), 50)
  const name = `one stream beside ${streams} of another key`
  return [
    row(`${name}, time to first token p50, of alone`, ttft(beside) / ttft(alone), 'x', 'lower', 5),
    row(`${name}, decode rate p50, of alone`, rate(beside) / rate(alone), 'x', 'higher', 1 / 3),
    row(`${name}, tokens per second of both, of the other's alone`, throughput, 'x', 'higher', 0.95),
    row('one stream alone, time to first token p50', ttft(alone), 'ms', 'lower', null),
    row('one stream alone, decode rate p50', rate(alone), 'tok/s', 'higher', null),
  ]
}

/** Of the tokens after the first delivery. */
function decodeRate({ firstAt, lastAt, tokens }: Answer): number {
  return (tokens - 1) / ((lastAt - firstAt) / 1000)
}

function row(
  name: string,
  value: number,
  unit: string,
  better: BenchCase['better'],
  goal: number | null,
): BenchCase {
  return { case: name, value: Number(value.toPrecision(3)), unit, better, goal }
}
