import { resolveModel } from '../../cli/models/resolve.ts'
import { type Checkpoint, readCheckpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import { BLOCK_TOKENS, type EngineConfig } from '../../gpu-node/engine/engine-config.ts'
import type { EngineRequest } from '../../gpu-node/engine/engine-request.ts'
import { toEngineConfig } from '../../gpu-node/engine-options.ts'
import { PromptEncoder } from '../../gpu-node/text/prompt-encoder.ts'
import { type ModelName, randomLlama, randomPrompt } from '../engine/random-llama.ts'
import { EOS } from '../engine/vocabulary.ts'
import { type Answer, answer } from './answers.ts'

/** Requests to one model, which every device answers. */
export interface Job {
  readonly name: string
  /** For the CPU. */
  readonly config: EngineConfig
  readonly requests: readonly EngineRequest[]
}

const STEP_TOKENS = 24
const MAX_DEPTH = 3
const RUNNING_BRANCHES = 6
/** The token of a random model's answer that is taken for [Fork]. */
const FORK_AT = 3
const WITHOUT_FORKS = { fork: -1, child: -1 } as const

/** A model that forks by itself. */
export function tunedJob(name: string, questions: readonly string[], maxTokens: number): Job {
  const { path, adapter } = resolveModel(name)
  const checkpoint = readCheckpoint(path, { adapter })
  const { fork, child, eos } = checkpoint.tokens
  const control = [fork, child, ...eos].filter((id) => id !== undefined)
  const encoder = new PromptEncoder(checkpoint.text, control)
  const requests = questions.map((content, index) => {
    const prompt = encoder.encode([{ role: 'user', content }], checkpoint.shape.contextTokens)
    return request(index, prompt, maxTokens)
  })
  return { name, config: tight(checkpoint, requests), requests }
}

/**
 * A random model never says [Fork] by itself: a token of its own answer is taken for it. As prompts repeat themselves,
 * n-grams are drafted.
 */
export async function randomJob(name: ModelName, maxTokens: number): Promise<Job> {
  const checkpoint = randomLlama(name)
  const prompts = [0, 1].map((seed) => {
    const some = [...randomPrompt(6, seed)]
    return Int32Array.from([...some, ...some, ...some])
  })
  const requests = prompts.map((prompt, index) => request(index, prompt, maxTokens))
  const config = tight(checkpoint, requests)
  const alone = { ...config, numBlocks: 64, minBlocks: 64, tokens: { ...WITHOUT_FORKS, eos: [EOS] } }
  const { answers } = await answer(
    alone,
    prompts.map((prompt, index) => ({ id: index + 1, prompt, maxTokens })),
  )
  const fork = rootOf(answers[0])[FORK_AT]
  if (fork === undefined) throw new Error(`${name} said too little`)
  const child = [...randomPrompt(1, 99)][0] ?? EOS
  return { name, config: { ...config, tokens: { fork, child, eos: [EOS] } }, requests }
}

/** With as few KV blocks as the engine accepts, so that branches are preempted. */
function tight(checkpoint: Checkpoint, requests: readonly EngineRequest[]): EngineConfig {
  const options = { dtype: 'f32', device: 'cpu', maxStepTokens: STEP_TOKENS } as const
  const config = toEngineConfig(checkpoint, { ...options, maxBranches: RUNNING_BRANCHES })
  const longest = Math.max(...requests.map(({ prompt, maxTokens }) => prompt.length + maxTokens))
  const blocks = Math.ceil(longest / BLOCK_TOKENS) + MAX_DEPTH - 1
  const model = {
    ...config.model,
    contextTokens: Math.min(config.model.contextTokens, blocks * BLOCK_TOKENS),
  }
  return { ...config, model, numBlocks: blocks, minBlocks: blocks }
}

function request(index: number, prompt: Int32Array, maxTokens: number): EngineRequest {
  return { id: index + 1, prompt, maxTokens, maxBranches: 8, maxDepth: MAX_DEPTH }
}

function rootOf(of: Answer | undefined): readonly number[] {
  return of?.get('0') ?? []
}
