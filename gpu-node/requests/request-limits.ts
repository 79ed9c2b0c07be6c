import { randomInt } from 'node:crypto'
import { AparError } from '../../shared/errors.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import type { Checkpoint } from '../checkpoint/checkpoint.ts'
import type { EngineRequest } from '../engine/types.ts'

/** The reference's defaults: 32 branches, one level below the root. */
const DEFAULT_MAX_BRANCHES = 32
const DEFAULT_MAX_DEPTH = 2

/**
 * A request in the engine's terms. Absent sampling fields come from the checkpoint. `max_tokens` is cut to what the
 * context leaves: prompt and all new tokens of all branches together have to fit it.
 * @throws AparError `context_length_exceeded` when the prompt leaves no room for an answer.
 */
export function toEngineRequest(
  id: number,
  request: GenerateRequest,
  prompt: Int32Array,
  checkpoint: Checkpoint,
): Omit<EngineRequest, 'branches'> {
  const { shape, tokens, sampling } = checkpoint
  const room = shape.contextTokens - prompt.length
  if (room < 1) {
    const message = `messages: the prompt has ${prompt.length} tokens, the context ${shape.contextTokens}`
    throw new AparError('context_length_exceeded', message, { param: 'messages' })
  }
  const { enabled = true, max_branches, max_depth, max_branch_tokens } = request.branching ?? {}
  const forks = enabled && tokens.fork !== undefined
  return {
    id,
    prompt,
    maxTokens: Math.min(request.max_tokens ?? room, room),
    maxBranches: forks ? (max_branches ?? DEFAULT_MAX_BRANCHES) : 1,
    maxDepth: forks ? (max_depth ?? DEFAULT_MAX_DEPTH) : 1,
    temperature: request.temperature ?? sampling.temperature,
    topP: request.top_p ?? sampling.topP,
    topK: request.top_k ?? sampling.topK,
    minP: request.min_p ?? sampling.minP,
    repetitionPenalty: request.repetition_penalty ?? sampling.repetitionPenalty,
    frequencyPenalty: request.frequency_penalty ?? 0,
    presencePenalty: request.presence_penalty ?? 0,
    seed: request.seed ?? randomInt(2 ** 32),
    stopTokens: new Int32Array(),
    maxBranchTokens: max_branch_tokens ?? 0,
    logprobs: request.logprobs ?? -1,
    logitBias: toLogitBias(request.logit_bias ?? {}, shape.vocabSize),
  }
}

/** @throws AparError `invalid_request` for a token that the model has not. */
function toLogitBias(bias: Record<string, number>, vocabSize: number): EngineRequest['logitBias'] {
  const entries = Object.entries(bias)
  const stray = entries.find(([token]) => Number(token) >= vocabSize)
  if (stray) {
    const param = `logit_bias.${stray[0]}`
    throw new AparError('invalid_request', `${param}: the model has ${vocabSize} tokens`, { param })
  }
  return {
    tokens: Int32Array.from(entries, ([token]) => Number(token)),
    values: Float32Array.from(entries, ([, value]) => value),
  }
}
