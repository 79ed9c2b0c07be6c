import type { EngineRequest } from '../../gpu-node/engine/types.ts'

/** A greedy, serial engine request of 32 tokens with all fields; `fields` override them. */
export function greedyRequest(fields: Partial<EngineRequest> & Pick<EngineRequest, 'id'>): EngineRequest {
  return {
    prompt: Int32Array.of(1),
    maxTokens: 32,
    maxBranches: 1,
    maxDepth: 1,
    temperature: 0,
    topP: 1,
    topK: 0,
    minP: 0,
    repetitionPenalty: 1,
    frequencyPenalty: 0,
    presencePenalty: 0,
    seed: 0,
    stopTokens: new Int32Array(),
    maxBranchTokens: 0,
    logprobs: -1,
    logitBias: { tokens: new Int32Array(), values: new Float32Array() },
    branches: [],
    ...fields,
  }
}
