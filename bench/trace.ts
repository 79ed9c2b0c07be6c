import { resolveModel } from '../cli/models/resolve.ts'
import { asksRunner } from '../cli/trace/ask.ts'
import { readQuestions } from '../cli/trace/dataset.ts'
import { openRunner } from '../gpu-node/open-runner.ts'
import type { GenerateRequest } from '../shared/protocol/request.ts'
import { type BenchOptions, type BenchResult, commit, machine, median, SampleFile } from './report.ts'

const PROMPTS = 'bench/apar/demo-prompts.jsonl'
/** The model with the shortest steps shows most of what a step costs besides its arithmetic. */
const MODEL = 'demo'
const MAX_TOKENS = 160
/** Requests at a time: one as in `apar trace`, and as many as keep the engine busy. */
const CONCURRENCY = [1, 16]

/**
 * What recording traces costs: the same answers with and without a trace, in turns on one engine, through the gpu node's
 * own path without network. Which of the two is first alternates.
 */
export async function trace({ quick }: BenchOptions): Promise<BenchResult> {
  const repetitions = quick ? 5 : 25
  const questions = (await readQuestions(PROMPTS)).slice(0, quick ? 4 : 16)
  const runner = await openRunner(resolveModel(MODEL).path, { prefixCache: false, speculation: 'off' })
  const ask = asksRunner(runner)
  const file = new SampleFile('trace')
  const requests = questions.map(
    ({ turns }): GenerateRequest => ({
      ...{ model: runner.model, messages: [{ role: 'user', content: turns[0] ?? '' }] },
      ...{ max_tokens: MAX_TOKENS, temperature: 0 },
    }),
  )
  const tokensPerSecond = async (concurrency: number, traced: boolean) => {
    const waiting = requests.values()
    let tokens = 0
    const begun = performance.now()
    const work = async () => {
      for (const request of waiting) {
        for await (const event of ask({ ...request, trace: traced }))
          if (event.type === 'done') tokens += event.usage.completion_tokens
      }
    }
    await Promise.all(Array.from({ length: concurrency }, work))
    return (1000 * tokens) / (performance.now() - begun)
  }
  const cases: BenchResult['cases'] = []
  try {
    await tokensPerSecond(16, true)
    for (const concurrency of CONCURRENCY) {
      const ratios: number[] = []
      for (let repetition = 0; repetition < repetitions; repetition++) {
        const rates = { traced: 0, plain: 0 }
        const order = repetition % 2 === 0 ? (['traced', 'plain'] as const) : (['plain', 'traced'] as const)
        for (const each of order) rates[each] = await tokensPerSecond(concurrency, each === 'traced')
        ratios.push(rates.traced / rates.plain)
        file.add({ bench: 'trace', concurrency, repetition, ...rates })
      }
      console.error(`trace: ${concurrency} at a time: ${median(ratios).toFixed(3)} of the throughput`)
      const round = (value: number) => Number(value.toPrecision(4))
      cases.push({
        case: `throughput with traces, of that without, ${concurrency} requests at a time`,
        value: round(median(ratios)),
        ...{ unit: 'x', better: 'higher', goal: 0.99 },
        ...{ low: round(Math.min(...ratios)), high: round(Math.max(...ratios)) },
      })
    }
  } finally {
    await runner.close()
  }
  return { bench: 'trace', commit: commit(), machine: machine(), samples: file.path, cases }
}
