import { expect, test } from 'vitest'
import { NO_DRY } from '../../gpu-node/engine/dry-sampling.ts'
import { engineRequestSchema, toEngineRequest } from '../../gpu-node/engine/engine-request.ts'

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
    unpenalised: [],
    seed: 0,
    minTokens: 0,
    ignoreEos: false,
    promptLogprobs: -1,
    stopTokens: new Int32Array(),
    stop: [],
    stopScope: 'branch',
    maxBranchTokens: 0,
    logprobs: -1,
    logitBias: { tokens: new Int32Array(), values: new Float32Array() },
    branches: [],
    forced: [],
    tenant: { id: 0, weight: 1, priority: 0 },
    speculation: 'auto',
    trace: false,
    dry: NO_DRY,
  })
})

test('branches are limited by the request, by default, and by what the model was trained for', () => {
  const limitsOf = (branching: object, branchLimits: object) => {
    const defaults = {
      shape: { contextTokens: 64, vocabSize: 8 },
      tokens: { fork: 5 },
      branchLimits,
      sampling: { temperature: 0, topP: 1, topK: 0, minP: 0, repetitionPenalty: 1, dry: NO_DRY },
    }
    const request = { model: 'm', messages: [], branching }
    const { maxBranches, maxDepth } = toEngineRequest(1, request, Int32Array.of(3), defaults, [])
    return [maxBranches, maxDepth]
  }
  expect(limitsOf({}, {})).toEqual([32, 2])
  expect(limitsOf({}, { maxBranches: 4, maxDepth: 3 })).toEqual([4, 2])
  expect(limitsOf({ max_branches: 9, max_depth: 9 }, { maxBranches: 4, maxDepth: 3 })).toEqual([4, 3])
  expect(limitsOf({ max_branches: 2, max_depth: 2 }, { maxBranches: 4, maxDepth: 3 })).toEqual([2, 2])
  expect(limitsOf({ enabled: false }, { maxBranches: 4 })).toEqual([1, 1])
})
