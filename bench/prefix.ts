import { openEngine } from '../gpu-node/engine/binding.ts'
import type { Engine } from '../gpu-node/engine/engine.ts'
import { toEngineConfig } from '../gpu-node/engine-options.ts'
import { EventCounter } from './engine/event-counter.ts'
import { submit } from './engine/ours.ts'
import { randomLlama, randomPrompt } from './engine/random-llama.ts'
import { type BenchOptions, type BenchResult, commit, machine, median, SampleFile } from './report.ts'

const SHARED = 1000
const OWN = 24
const REPETITIONS = 10
const QUICK_REPETITIONS = 3

/**
 * Measures what the prefix cache saves: the time to the first token of a new prompt of 1,024 tokens, and of one
 * whose first 1,000 tokens are cached (the next turn of a chat, or another user of the same system prompt).
 */
export async function prefix({ quick }: BenchOptions): Promise<BenchResult> {
  const file = new SampleFile('prefix')
  const counter = new EventCounter()
  const config = toEngineConfig(randomLlama('110M'), { device: 'cpu', threads: 2, numBlocks: 512 })
  const engine = await openEngine(config, counter.onEvents)
  const times = { cold: [] as number[], warm: [] as number[] }
  try {
    for (let repetition = 0; repetition < (quick ? QUICK_REPETITIONS : REPETITIONS); repetition++) {
      const shared = randomPrompt(SHARED, 3 * repetition)
      for (const [turn, kind] of (['cold', 'warm'] as const).entries()) {
        const prompt = Int32Array.from([...shared, ...randomPrompt(OWN, 3 * repetition + turn + 1)])
        const before = engine.stats().cachedPromptTokens
        const ms = await timeToFirstToken(engine, counter, prompt)
        const hits = engine.stats().cachedPromptTokens - before
        times[kind].push(ms)
        file.add({ bench: 'prefix', case: kind, repetition, ms, hits })
      }
    }
  } finally {
    await engine.close()
  }
  const [cold, warm] = [median(times.cold), median(times.warm)]
  const ms = { unit: 'ms', better: 'lower', goal: null } as const
  return {
    bench: 'prefix',
    commit: commit(),
    machine: machine(),
    samples: file.path,
    cases: [
      { case: '110M bf16, 1,024 tokens, none seen before', value: round(cold), ...ms },
      { case: '110M bf16, 1,024 tokens, 1,000 seen before', value: round(warm), ...ms },
      { case: 'sooner', value: round(cold / warm), unit: 'x', better: 'higher', goal: null },
    ],
  }
}

async function timeToFirstToken(engine: Engine, counter: EventCounter, prompt: Int32Array): Promise<number> {
  const { finished } = counter
  const begun = performance.now()
  submit(engine, prompt, 1)
  await counter.until((now) => now.finished > finished)
  return performance.now() - begun
}

function round(value: number): number {
  return Number(value.toPrecision(4))
}
