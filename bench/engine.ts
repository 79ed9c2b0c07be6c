import { execFileSync } from 'node:child_process'
import { openEngine } from '../gpu-node/engine/binding.ts'
import type { DType, Engine, EngineConfig } from '../gpu-node/engine/types.ts'
import { decode, EventCounter, prefill, type Rate, randomPrompt } from './engine/cases.ts'
import { type RandomLlama, randomLlama, SHAPES } from './engine/random-llama.ts'
import {
  type BenchCase,
  type BenchOptions,
  type BenchResult,
  commit,
  machine,
  median,
  SampleFile,
} from './report.ts'

const THREADS = 2
const SHARED_TOKENS = 500
const REPETITIONS = 5

interface Case {
  name: string
  model: keyof typeof SHAPES & string
  dtype: DType
  rows: number
  /** Tokens that each branch decodes; 0 measures prefill of 512 tokens. */
  each: number
}

const QUICK: Case[] = [
  { name: 'single stream', model: '15M', dtype: 'bf16', rows: 1, each: 128 },
  { name: 'single stream', model: '110M', dtype: 'bf16', rows: 1, each: 48 },
  { name: 'prefill 512', model: '110M', dtype: 'bf16', rows: 1, each: 0 },
  { name: '8 branches, 500 shared', model: '110M', dtype: 'bf16', rows: 8, each: 32 },
  { name: '32 branches, 500 shared', model: '110M', dtype: 'bf16', rows: 32, each: 24 },
]
const FULL: Case[] = [
  ...QUICK,
  { name: 'prefill 512', model: '15M', dtype: 'bf16', rows: 1, each: 0 },
  { name: 'single stream', model: '1.1B', dtype: 'bf16', rows: 1, each: 24 },
  { name: 'prefill 512', model: '1.1B', dtype: 'bf16', rows: 1, each: 0 },
  { name: '32 branches, 500 shared', model: '1.1B', dtype: 'bf16', rows: 32, each: 12 },
]

/**
 * The engine alone, through the addon, on random Llama weights, 2 threads. The floor of a decoding case is what it has to
 * read (weights, the shared prefix once, each branch's own tokens) over the memory bandwidth measured in the same run;
 * with many rows arithmetic is the limit before that.
 */
export async function engine({ quick }: BenchOptions): Promise<BenchResult> {
  const file = new SampleFile('engine')
  const results: BenchCase[] = []
  for (const test of quick ? QUICK : FULL) {
    const model = randomLlama(test.model, SHAPES[test.model] as RandomLlama['shape'])
    const bandwidth = measureBandwidth(test.model === '15M' ? 24 : 512)
    const rates = await run(test, model, quick ? 2 : REPETITIONS)
    const perSecond = rates.map(({ tokens, seconds }) => tokens / seconds)
    const name = `${test.model} ${test.dtype}, ${test.name}`
    for (const [repetition, value] of perSecond.entries())
      file.add({ bench: 'engine', case: name, repetition, value })
    const floor = test.each > 0 ? (test.rows * bandwidth) / stepBytes(test, model) : undefined
    const value = median(perSecond)
    console.error(`engine: ${name}: ${value.toFixed(1)} tok/s${floor ? `, floor ${floor.toFixed(1)}` : ''}`)
    const rounded = { value: round(value), ...(floor === undefined ? {} : { floor: round(floor) }) }
    results.push({ case: name, ...rounded, unit: 'tok/s', better: 'higher', goal: null })
  }
  return { bench: 'engine', commit: commit(), machine: machine(), samples: file.path, cases: results }
}

async function run(test: Case, model: RandomLlama, repetitions: number): Promise<Rate[]> {
  const counter = new EventCounter()
  const engine = await openEngine(configOf(test, model), counter.onEvents)
  const rates: Rate[] = []
  try {
    for (let repetition = -1; repetition < repetitions; repetition++) {
      const rate = await measure(test, model, engine, counter, repetition + 1)
      if (repetition >= 0) rates.push(rate) // the first one warms up
    }
  } finally {
    await engine.close()
  }
  return rates
}

function measure(
  { rows, each }: Case,
  model: RandomLlama,
  engine: Engine,
  counter: EventCounter,
  seed: number,
): Promise<Rate> {
  const { vocabSize } = model.shape
  if (each === 0) return prefill(engine, counter, randomPrompt(512, seed, vocabSize))
  const shared = rows === 1 ? 8 : SHARED_TOKENS
  return decode(engine, counter, randomPrompt(shared, seed, vocabSize), rows, each)
}

function configOf({ dtype }: Case, { shape, weights }: RandomLlama): EngineConfig {
  return {
    model: shape,
    weights,
    tokens: { fork: -1, child: -1, eos: [2] },
    dtype,
    threads: THREADS,
    numBlocks: 512,
    maxStepTokens: 512,
    maxBranches: 64,
    maxRequests: 64,
    prefixCache: true,
    watermark: 0.01,
    policy: 'eager',
  }
}

function stepBytes({ rows, each }: Case, { shape, bytes }: RandomLlama): number {
  const embedding = shape.tieWordEmbeddings ? 0 : shape.vocabSize * shape.hiddenSize * 2
  const kvPerToken = 2 * shape.numLayers * shape.numKvHeads * shape.headDim * 2
  const shared = rows === 1 ? 8 : SHARED_TOKENS
  return bytes - embedding + kvPerToken * (shared + (rows * each) / 2)
}

/** Bytes per second with the engine's number of threads. */
function measureBandwidth(mebibytes: number): number {
  const args = [String(THREADS), String(mebibytes), '0.3']
  const line = execFileSync('native/build/release/bench/bench_bandwidth', args, { encoding: 'utf8' })
  return JSON.parse(line).gb_per_s * 1e9
}

function round(value: number): number {
  return Number(value.toPrecision(4))
}
