import { z } from 'zod'
import { Speculation } from '../../shared/protocol/speculation.ts'

/**
 * Weights and arithmetic. int8 and int4 quantise the linear layers in groups of 32, int4-g128 in groups of 128 with zero
 * points (docs/adr/0087); fp8 is e4m3 with a scale per output.
 */
export const DTYPES = ['f32', 'bf16', 'f16', 'fp8', 'int8', 'int4', 'int4-g128'] as const
export type DType = (typeof DTYPES)[number]

/** Data types that only CUDA devices compute. */
export const CUDA_DTYPES = ['f16', 'fp8', 'int4-g128'] as const satisfies readonly DType[]

/** Keys and values: `auto` is f32 beside f32 weights, else bf16; `fp8` (e4m3, docs/adr/0022) is for CUDA devices. */
export const KV_CACHE_DTYPES = ['auto', 'fp8'] as const
export type KvCacheDType = (typeof KV_CACHE_DTYPES)[number]

export const DEVICES = ['auto', 'cpu', 'cuda'] as const
export type Device = (typeof DEVICES)[number]

/** Tokens of a KV block. */
export const BLOCK_TOKENS = 16

export const MAX_INT32 = 2 ** 31 - 1
/** A whole number from 1 on that native code takes as int32. */
export const count = z.int().min(1).max(MAX_INT32)
const tokenId = z.int().min(0).max(MAX_INT32)
const positive = z.number().positive()

/** Rotary position embeddings (arXiv 2104.09864), whatever scaling they have. */
const RotaryEmbedding = z.strictObject({
  /** The base that the frequencies come from; the engine does not read it. */
  theta: positive,
  /**
   * Radians per position of each pair of elements. The first 2n elements of a head are rotated, element i paired with
   * i + n, n being the length of this array; the head's other elements stay as they are.
   */
  frequencies: z.array(z.number().min(0)).min(1),
  /** Factor of all cosines and sines: yarn's attention factor, else 1. */
  scale: positive,
})
export type RotaryEmbedding = z.infer<typeof RotaryEmbedding>

/** One decoder layer for all architectures: what they do differently is data. */
const ModelShape = z.strictObject({
  vocabSize: count,
  hiddenSize: count,
  intermediateSize: count,
  numLayers: count,
  numHeads: count,
  numKvHeads: count,
  headDim: count.multipleOf(2),
  contextTokens: count,
  rmsNormEps: positive,
  rope: RotaryEmbedding,
  /** Layers whose queries and keys are not rotated. */
  layersWithoutRope: z.array(z.int().min(0)),
  /** Which linear layers add a bias vector: q, k and v; the output of attention; gate, up and down. */
  biases: z.strictObject({ qkv: z.boolean(), attentionOutput: z.boolean(), mlp: z.boolean() }),
  /** Queries and keys go through an RMS norm of each head before they are rotated. */
  headNorms: z.boolean(),
  tieWordEmbeddings: z.boolean(),
})
export type ModelShape = z.infer<typeof ModelShape>

/** The limits of native code (native/common/model_config.h). */
export const MAX_MEDUSA_HEADS = 8
export const MAX_MEDUSA_LAYERS = 8

/** Medusa heads (arXiv 2401.10774); head i, from 0, predicts the token at offset i + 2. */
const MedusaShape = z.strictObject({
  numHeads: z.int().min(1).max(MAX_MEDUSA_HEADS),
  /** Residual blocks of each head. */
  numLayers: z.int().min(0).max(MAX_MEDUSA_LAYERS),
  /** The heads' projection to logits is the model's own. */
  sharesLmHead: z.boolean(),
  /** Before the heads, W times the embedding of the token behind it is added to the hidden state. */
  readsNextToken: z.boolean(),
  /** Rows of the projections that are used; the model may have more tokens. */
  vocabSize: count,
})
export type MedusaShape = z.infer<typeof MedusaShape>

/**
 * As safetensors and GGUF name them; from Q8_0 to IQ4_NL, weights are stored in blocks that share scales. AWQ_4, GPTQ_4
 * and GPTQ_8 are the packed codes of AWQ and GPTQ, which safetensors calls I32.
 */
export const TENSOR_DTYPES = [
  ...(['F32', 'BF16', 'F16'] as const),
  ...(['Q8_0', 'Q4_0', 'Q4_1', 'Q5_0', 'Q5_1', 'Q2_K', 'Q3_K', 'Q4_K', 'Q5_K', 'Q6_K', 'IQ4_NL'] as const),
  ...(['F8_E4M3', 'AWQ_4', 'GPTQ_4', 'GPTQ_8', 'I32'] as const),
] as const

/**
 * The tensor of a linear layer holds codes, in the layout of its dtype (native/model/quantised_layer.h). A weight is
 * scale * code, or scale * (code - zero point). The parts are tensors of the checkpoint, by name.
 */
const QuantisedLayer = z.strictObject({
  /** Outputs and inputs that share a scale. */
  blockOutputs: count,
  blockInputs: count,
  scales: z.string().min(1),
  /** Zero points, packed like the codes. */
  zeros: z.string().min(1).optional(),
  /** The group of each input; without this tensor, neighbours form a group. */
  groups: z.string().min(1).optional(),
  /** What is added to a stored zero point. */
  zeroOffset: z.int().min(0).max(1),
})
export type QuantisedLayer = z.infer<typeof QuantisedLayer>

/** One tensor of a checkpoint: where its bytes lie. The engine maps the file. */
const TensorEntry = z.strictObject({
  name: z.string().min(1),
  /** Index into `files`. */
  file: z.int().min(0),
  /** Bytes from the start of the file. */
  offset: z.int().min(0),
  dtype: z.enum(TENSOR_DTYPES),
  shape: z.array(count).min(1).max(8),
  /** Row 2i + h of each of this many heads is row i of the head's half h: the engine puts the halves together again. */
  interleavedHeads: count.optional(),
  quantised: QuantisedLayer.optional(),
  /**
   * An adapter's LoRA, merged when the tensor is loaded: scale * B · A is added, A and B being the tensors NAME.lora_A
   * [rank, columns] and NAME.lora_B [rows, rank]. `transposed`, for an embedding table: scale * (B · A)ᵀ.
   */
  lora: z.strictObject({ scale: z.number(), transposed: z.boolean() }).optional(),
  /** Rows that NAME.rows has instead, in its order; beyond those of `shape`, they make the tensor grow. */
  replacedRows: z.array(tokenId).min(1).optional(),
})
export type TensorEntry = z.infer<typeof TensorEntry>

/** When a branch may fork. */
export const POLICIES = ['eager', 'capped', 'serial', 'deadline'] as const
export type Policy = (typeof POLICIES)[number]

/** Options of the native engine. A parsed value is safe to pass to native code. */
export const EngineConfig = z
  .strictObject({
    model: ModelShape,
    /** Their tensors are among the weights, each name behind `medusa.`. */
    medusa: MedusaShape.optional(),
    weights: z.strictObject({
      files: z.array(z.string().min(1)).min(1),
      tensors: z.array(TensorEntry).min(1),
    }),
    /** Ids from the tokenizer, never constants; -1 for a model without [Fork] and [Child]. `eos` ends a branch. */
    tokens: z.strictObject({
      fork: z.int().min(-1).max(MAX_INT32),
      child: z.int().min(-1).max(MAX_INT32),
      eos: z.array(tokenId).min(1),
    }),
    dtype: z.enum(DTYPES),
    kvCacheDtype: z.enum(KV_CACHE_DTYPES),
    /** `auto`: on a CUDA device where there is one, else on the CPU; `EngineInfo.device` says which and why. */
    device: z.enum(DEVICES),
    /** CUDA devices, by number, that share the model over NCCL; `device` is `cuda` then. Empty: the first one, alone. */
    devices: z.array(z.int().min(0).max(63)).max(64),
    /** OS threads of the CPU backend. */
    threads: z.int().min(1).max(256),
    /** KV blocks of {@link BLOCK_TOKENS} tokens in the pool; the plan of the memory takes fewer where they do not fit. */
    numBlocks: count,
    /** With fewer blocks the engine does not start. */
    minBlocks: count,
    /** If not 0, the size of the pool in bytes instead of `numBlocks`. */
    kvCacheBytes: z.int().min(0),
    /** Share of the free memory that the engine may take, in (0, 1]; 0 is the default (native/engine/memory_plan.h). */
    memoryFraction: z.number().min(0).max(1),
    /** Of the host's free memory, what this process takes for other things after the plan is made. */
    reservedBytes: z.int().min(0),
    /**
     * Token budget of one step: decode rows first, then prefill chunks. 0: as many as suit the device, which the plan of
     * the memory chooses (native/engine/step_size.h).
     */
    maxStepTokens: z.int().min(0).max(MAX_INT32),
    /** Branches decoding at the same time, over all requests. */
    maxBranches: count,
    /** Requests that may wait or run; one more is refused with `queue_full`. */
    maxRequests: count,
    /** Keep the KV blocks of computed text until they are needed for other text. */
    prefixCache: z.boolean(),
    /** Share of the KV blocks that admission of new requests keeps free for running ones, in [0, 1). */
    watermark: z.number().min(0).lt(1),
    /**
     * When the batch is full: `eager` lets branches take turns, `capped` masks [Fork]; `serial` always does. `deadline` does where a
     * fork would make another request late (native/core/branch_policy.h).
     */
    policy: z.enum(POLICIES),
    /** Of the policy `deadline`: when a request's next token is due after the one before. 0 with other policies. */
    tokenDeadlineMs: z.number().min(0).max(1e6),
    /** Of the policy `deadline`: requests that wait longer for their first token come behind others. 0: none does. */
    firstTokenDeadlineMs: z.number().min(0).max(1e6),
    /** Requests may draft with this source only; `auto`: with any, `off`: with none. */
    speculation: Speculation,
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
    if (config.medusa && config.medusa.vocabSize > model.vocabSize)
      refuse(['medusa', 'vocabSize'], 'exceeds the vocabulary')
    const { devices } = config
    if (devices.length > 0 && config.device !== 'cuda')
      refuse(['devices'], 'are CUDA devices: device must be cuda')
    if (new Set(devices).size < devices.length) refuse(['devices'], 'names a device twice')
    if (config.minBlocks > config.numBlocks) refuse(['minBlocks'], 'must not exceed numBlocks')
    if (config.maxStepTokens > 0 && config.maxBranches > config.maxStepTokens)
      refuse(['maxBranches'], 'must not exceed maxStepTokens')
    const stray = weights.tensors.findIndex(({ file }) => file >= weights.files.length)
    if (stray !== -1) refuse(['weights', 'tensors', stray, 'file'], 'is not in files')
  })
export type EngineConfig = z.infer<typeof EngineConfig>
