import { z } from 'zod'
import { DTYPES, type EngineConfig, type EngineRequest, FINISH, KV_CACHE_DTYPES } from './types.ts'

// TypeScript validates, C++ executes: what passes here is safe to hand to native code.

const MAX_INT32 = 2 ** 31 - 1
const count = z.int().min(1).max(MAX_INT32)
const optionalTokenId = z.int().min(-1).max(MAX_INT32)
const tokenId = z.int().min(0).max(MAX_INT32)
const positive = z.number().positive()

const Shape = z.strictObject({
  vocabSize: count,
  hiddenSize: count,
  intermediateSize: count,
  numLayers: count,
  numHeads: count,
  numKvHeads: count,
  headDim: count.multipleOf(2),
  contextTokens: count,
  rmsNormEps: positive,
  ropeTheta: positive,
  tieWordEmbeddings: z.boolean(),
})

const Tensor = z.strictObject({
  name: z.string().min(1),
  file: z.int().min(0),
  offset: z.int().min(0),
  dtype: z.enum(['F32', 'BF16', 'F16']),
  shape: z.array(count).min(1).max(8),
})

export const EngineConfigSchema: z.ZodType<EngineConfig> = z
  .strictObject({
    model: Shape,
    weights: z.strictObject({ files: z.array(z.string().min(1)).min(1), tensors: z.array(Tensor).min(1) }),
    tokens: z.strictObject({ fork: optionalTokenId, child: optionalTokenId, eos: z.array(tokenId).min(1) }),
    dtype: z.enum(DTYPES),
    kvCacheDtype: z.enum(KV_CACHE_DTYPES),
    device: z.enum(['auto', 'cpu', 'cuda']),
    devices: z.array(z.int().min(0).max(63)).max(64),
    threads: z.int().min(1).max(256),
    numBlocks: count,
    fillDevice: z.boolean(),
    maxStepTokens: count,
    maxBranches: count,
    maxRequests: count,
    prefixCache: z.boolean(),
    watermark: z.number().min(0).lt(1),
    policy: z.enum(['eager', 'capped', 'serial']),
  })
  .superRefine((config, context) => {
    const refuse = (path: (string | number)[], message: string) =>
      context.addIssue({ code: 'custom', path, message })
    const { model, tokens, weights } = config
    if (model.numHeads % model.numKvHeads !== 0) refuse(['model', 'numKvHeads'], 'must divide numHeads')
    for (const [name, id] of [
      ['fork', tokens.fork],
      ['child', tokens.child],
    ] as const) {
      if (id >= model.vocabSize) refuse(['tokens', name], 'is not in the vocabulary')
    }
    if (tokens.fork < 0 !== tokens.child < 0) refuse(['tokens', 'child'], 'fork and child go together')
    if (tokens.fork >= 0 && tokens.fork === tokens.child) refuse(['tokens', 'child'], 'is the fork token too')
    if (tokens.eos.some((id) => id >= model.vocabSize)) refuse(['tokens', 'eos'], 'is not in the vocabulary')
    if (tokens.eos.some((id) => id === tokens.fork || id === tokens.child)) {
      refuse(['tokens', 'eos'], 'is the fork or child token too')
    }
    const { devices } = config
    if (devices.length > 0 && config.device !== 'cuda')
      refuse(['devices'], 'are CUDA devices: device must be cuda')
    if (new Set(devices).size < devices.length) refuse(['devices'], 'names a device twice')
    if (config.maxBranches > config.maxStepTokens) refuse(['maxBranches'], 'must not exceed maxStepTokens')
    const stray = weights.tensors.findIndex(({ file }) => file >= weights.files.length)
    if (stray !== -1) refuse(['weights', 'tensors', stray, 'file'], 'is not in files')
  })

/** A request for a model with this vocabulary. */
export function engineRequestSchema(vocabSize: number): z.ZodType<EngineRequest> {
  const ids = z.instanceof(Int32Array).refine((array) => array.every((id) => id >= 0 && id < vocabSize), {
    error: 'holds an id that is not in the vocabulary',
  })
  return z.strictObject({
    id: count,
    prompt: ids.refine((array) => array.length > 0, { error: 'is empty' }),
    maxTokens: count,
    maxBranches: count,
    maxDepth: count,
    temperature: z.number().min(0).max(100),
    topP: z.number().gt(0).max(1),
    topK: z.int().min(0).max(MAX_INT32),
    minP: z.number().min(0).max(1),
    repetitionPenalty: z.number().gt(0).max(100),
    frequencyPenalty: z.number().min(-100).max(100),
    presencePenalty: z.number().min(-100).max(100),
    seed: z.int().min(0).max(0xffff_ffff),
    stopTokens: ids,
    maxBranchTokens: z.int().min(0).max(MAX_INT32),
    logprobs: z.int().min(-1).max(20),
    logitBias: z
      .strictObject({
        tokens: ids,
        values: z.instanceof(Float32Array).refine((array) => array.every(Number.isFinite)),
      })
      .refine(({ tokens, values }) => tokens.length === values.length, {
        error: 'tokens and values differ in length',
      }),
    branches: z.array(
      z.strictObject({
        id: z.int().min(0).max(MAX_INT32),
        parent: z.int().min(-1).max(MAX_INT32),
        forkPosition: z.int().min(-1).max(MAX_INT32),
        tokens: ids,
        ended: z.int().min(0).max(FINISH.ERROR),
      }),
    ),
  })
}
