import { expect, test } from 'vitest'
import { engineRequestSchema } from '../../gpu-node/engine/engine-request.ts'

test('an engine request without options is greedy, serial and unrestricted', () => {
  const required = { id: 1, prompt: Int32Array.of(3), maxTokens: 5 }
  expect(engineRequestSchema(8).parse(required)).toEqual({
    ...required,
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
    stop: [],
    stopScope: 'branch',
    maxBranchTokens: 0,
    logprobs: -1,
    logitBias: { tokens: new Int32Array(), values: new Float32Array() },
    branches: [],
    tenant: { id: 0, weight: 1, priority: 0 },
  })
})
