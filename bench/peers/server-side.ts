import { runLoad } from '../../cli/bench/serving/load/run-load.ts'
import type { Sample } from '../../cli/bench/serving/load/sample.ts'
import type { ModeOptions } from '../../cli/bench/serving/modes.ts'
import { httpTarget } from '../../cli/bench/serving/target/http-target.ts'
import { ROUTES } from '../../cli/bench/serving/target/routes.ts'
import type { Answered, Side, SideName } from './side.ts'

const SILENCE_MS = 300_000
/** `ignore_eos` alone makes the length: a least number of tokens would be work in each step. */
const NO_LEAST = { min_tokens: 0 }

export interface Server {
  readonly name: SideName
  readonly url: string
  readonly key?: string
  /** Of the model. */
  readonly model: string
  /** Options of apar; none for others. */
  readonly mode: ModeOptions | undefined
  close(): Promise<void>
}

/** A server with OpenAI's chat completions, asked by the client of `apar bench serving`. */
export function serverSide({ name, url, key, model, mode, close }: Server): Side {
  const target = httpTarget(ROUTES.chat, { baseUrl: url, key, silenceMs: SILENCE_MS }, NO_LEAST)
  return {
    name,
    async run(requests, streams) {
      const named = requests.map(({ prompt, tokens }, index) => ({
        id: String(index),
        request: {
          ...{ model, messages: [{ role: 'user' as const, content: prompt }], mode, seed: 0 },
          ...{ maxTokens: tokens, fixedLength: true, temperature: 0 },
        },
      }))
      const arrivals = requests.map(() => 0)
      const load = await runLoad({ target, requests: named, arrivals, concurrency: streams })
      return {
        seconds: load.durationMs / 1000,
        answers: load.samples.map((sample) => answered(name, sample)),
      }
    },
    async close() {
      target.close()
      await close()
    },
  }
}

function answered(name: string, sample: Sample): Answered {
  const { error, message, ttft_ms, prompt_tokens, output_tokens, text } = sample
  if (error !== null) throw new Error(`${name}: ${message} (${error})`)
  if (ttft_ms === null || prompt_tokens === null) throw new Error(`${name}: an answer without text or usage`)
  return { prompt_tokens, output_tokens, ttft_ms, text }
}
