import { resolveModel } from '../cli/models/resolve.ts'
import { asksRunner } from '../cli/trace/ask.ts'
import { readQuestions } from '../cli/trace/dataset.ts'
import { openRunner } from '../gpu-node/open-runner.ts'
import type { GenerateRequest } from '../shared/protocol/request.ts'
import {
  type BenchOptions,
  type BenchResult,
  commit,
  machine,
  median,
  ratioCase,
  SampleFile,
} from './report.ts'

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
  const runner = await openRunner(resolveModel(MODEL).path, {
    ...{ prefixCache: false, speculation: 'off' },
    // Threads that wait for one another use the processor, too.
    threads: 1,
  })
  const ask = asksRunner(runner)
  const file = new SampleFile('trace')
  const requests = questions.map(
    ({ turns }): GenerateRequest => ({
      ...{ model: runner.model, messages: [{ role: 'user', content: turns[0] ?? '' }] },
      ...{ max_tokens: MAX_TOKENS, temperature: 0 },
    }),
  )
  /** Tokens a second, and microseconds of the processor for each. */
  const measure = async (concurrency: number, traced: boolean) => {
    const waiting = requests.values()
    let tokens = 0
    const begun = performance.now()
    const usage = process.cpuUsage()
    const work = async () => {
      for (const request of waiting) {
        for await (const event of ask({ ...request, trace: traced }))
          if (event.type === 'done') tokens += event.usage.completion_tokens
      }
    }
    await Promise.all(Array.from({ length: concurrency }, work))
    const { user, system } = process.cpuUsage(usage)
    return { rate: (1000 * tokens) / (performance.now() - begun), cpu: (user + system) / tokens }
  }
  const cases: BenchResult['cases'] = []
  try {
    await measure(16, true)
    for (const concurrency of CONCURRENCY) {
      const rates: number[] = []
      const cpus: number[] = []
      for (let repetition = 0; repetition < repetitions; repetition++) {
        const first = repetition % 2 === 0
        const one = await measure(concurrency, first)
        const other = await measure(concurrency, !first)
        const [traced, plain] = first ? [one, other] : [other, one]
        rates.push(traced.rate / plain.rate)
        cpus.push(traced.cpu / plain.cpu)
        file.add({ bench: 'trace', concurrency, repetition, traced, plain })
      }
      const many = `${concurrency} requests at a time`
      cases.push(ratioCase(`throughput with traces, of that without, ${many}`, rates, 'higher', 0.99))
      cases.push(ratioCase(`processor time of a token, of that without, ${many}`, cpus, 'lower', 1.01))
      console.error(`trace: ${many}: ${median(rates).toFixed(3)} of the throughput`)
    }
  } finally {
    await runner.close()
  }
  return { bench: 'trace', commit: commit(), machine: machine(), samples: file.path, cases }
}
