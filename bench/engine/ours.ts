import type { Checkpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import { openEngine } from '../../gpu-node/engine/binding.ts'
import type { Engine } from '../../gpu-node/engine/engine.ts'
import type { DType } from '../../gpu-node/engine/engine-config.ts'
import { toEngineConfig } from '../../gpu-node/engine-options.ts'
import { openRunner } from '../../gpu-node/open-runner.ts'
import type { DoneEvent } from '../../shared/protocol/events.ts'
import type { EngineCase } from './cases.ts'
import { EventCounter } from './event-counter.ts'
import { randomPrompt } from './random-llama.ts'
import type { Side } from './side.ts'
import { EOS } from './vocabulary.ts'

const BLOCKS = 512

/** The engine, called through the addon. */
export async function openOurs(checkpoint: Checkpoint, dtype: DType, threads: number): Promise<Side> {
  const counter = new EventCounter()
  const config = toEngineConfig(checkpoint, { device: 'cpu', threads, dtype, numBlocks: BLOCKS })
  const engine = await openEngine(config, counter.onEvents)
  return {
    async rate(test, seed) {
      const prompt = randomPrompt(test.prompt, seed)
      return test.kind === 'prefill'
        ? await prefill(engine, counter, prompt)
        : await decode(engine, counter, prompt, test)
    },
    close: () => engine.close(),
  }
}

/** The engine, called through the gpu node's own path: messages in, text out. */
export async function openOursInNode(checkpoint: Checkpoint, dtype: DType, threads: number): Promise<Side> {
  const runner = await openRunner(checkpoint.path, { device: 'cpu', threads, dtype, numBlocks: BLOCKS })
  return {
    async rate({ each }) {
      const begun = performance.now()
      const done = await new Promise<DoneEvent>((resolve, reject) => {
        const request = {
          model: runner.model,
          messages: [{ role: 'user' as const, content: 'x' }],
          max_tokens: each,
          temperature: 0,
        }
        runner.start('bench', request, ({ events }) => {
          const last = events.at(-1)
          if (last?.type === 'done') resolve(last)
          if (last?.type === 'error') reject(new Error(last.message))
        })
      })
      return done.usage.completion_tokens / seconds(begun)
    },
    close: () => runner.close(),
  }
}

/** Prompt tokens per second up to the first token of a new prompt. */
async function prefill(engine: Engine, counter: EventCounter, prompt: Int32Array): Promise<number> {
  const finished = counter.finished
  const begun = performance.now()
  submit(engine, prompt, 1)
  await counter.until((now) => now.finished > finished)
  return prompt.length / seconds(begun)
}

/** Tokens per second of `rows` branches over one shared prompt; the prompt's prefill is not counted. */
async function decode(
  engine: Engine,
  counter: EventCounter,
  prompt: Int32Array,
  { rows, each }: EngineCase,
): Promise<number> {
  const { finished } = counter
  submit(engine, prompt, 1)
  await counter.until((now) => now.finished > finished)
  const cached = engine.stats().cachedPromptTokens
  const { tokens } = counter
  for (let branch = 0; branch < rows; branch++) submit(engine, prompt, each + 1)
  // When all branches have their first token, every step decodes `rows` rows.
  await counter.until((now) => now.tokens - tokens >= rows)
  const begun = performance.now()
  const from = counter.tokens
  await counter.until((now) => now.finished - finished > rows)
  const rate = (counter.tokens - from) / seconds(begun)
  const shared = (engine.stats().cachedPromptTokens - cached) / rows
  if (prompt.length - shared > 1)
    throw new Error(`of ${prompt.length} prompt tokens only ${shared} are shared`)
  return rate
}

let lastId = 0

/** Submits a greedy request with one branch. */
export function submit(engine: Engine, prompt: Int32Array, maxTokens: number): void {
  engine.submit({
    id: ++lastId,
    prompt,
    maxTokens,
    // Bans EOS: a random model could sample it before `maxTokens`.
    logitBias: { tokens: Int32Array.of(EOS), values: Float32Array.of(-1000) },
  })
}

function seconds(begun: number): number {
  return (performance.now() - begun) / 1000
}
