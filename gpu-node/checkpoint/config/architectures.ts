import { z } from 'zod'
import type { ModelShape } from '../../engine/engine-config.ts'

/** Fields of config.json that say in what a model differs from the first Llama models. */
export const ARCHITECTURE_FIELDS = {
  num_hidden_layers: z.int().min(1).max(4096),
  attention_bias: z.boolean().nullish(),
  attention_out_bias: z.boolean().nullish(),
  mlp_bias: z.boolean().nullish(),
  /** 1: the layer rotates queries and keys; 0: it does not. */
  no_rope_layers: z.array(z.union([z.literal(0), z.literal(1)])).nullish(),
  /** Without the list, every layer of this number does not rotate. */
  no_rope_layer_interval: z.int().min(1).nullish(),
  sliding_window: z.int().min(0).nullish(),
  use_sliding_window: z.boolean().nullish(),
  /** Layers from this one on have the window, unless `layer_types` says which. */
  max_window_layers: z.int().min(0).nullish(),
  layer_types: z.array(z.string()).nullish(),
}
export type ArchitectureFields = z.infer<z.ZodObject<typeof ARCHITECTURE_FIELDS>>

/** What transformers computes for an architecture, and the defaults of its fields there. */
export interface Architecture {
  /** `model_type` of config.json. */
  readonly modelType: string
  readonly biases: (config: ArchitectureFields) => ModelShape['biases']
  readonly headNorms: boolean
  /** Whether no_rope_layers and no_rope_layer_interval count. */
  readonly skipsRope: boolean
  /** Whether some layers have the window, if there is one. */
  readonly slides: (config: ArchitectureFields) => boolean
  /** Values of absent fields. */
  readonly defaults: {
    readonly ropeTheta: number
    readonly tieWordEmbeddings: boolean
    readonly headDim?: number
    readonly slidingWindow?: number
  }
}

const NO_BIASES = { qkv: false, attentionOutput: false, mlp: false }
const SLIDING = 'sliding_attention'

const LLAMA: Architecture = {
  modelType: 'llama',
  biases: ({ attention_bias, mlp_bias }) => ({
    qkv: attention_bias ?? false,
    attentionOutput: attention_bias ?? false,
    mlp: mlp_bias ?? false,
  }),
  headNorms: false,
  skipsRope: false,
  // transformers' Llama has no window; others read these fields in Llama checkpoints.
  slides: ({ use_sliding_window, layer_types }) =>
    use_sliding_window !== false && (layer_types?.includes(SLIDING) ?? true),
  defaults: { ropeTheta: 10_000, tieWordEmbeddings: false },
}

const MISTRAL: Architecture = {
  ...LLAMA,
  modelType: 'mistral',
  biases: () => NO_BIASES,
  slides: () => true,
  defaults: { ...LLAMA.defaults, slidingWindow: 4096 },
}

const QWEN2: Architecture = {
  ...LLAMA,
  modelType: 'qwen2',
  biases: () => ({ qkv: true, attentionOutput: false, mlp: false }),
  slides: ({ use_sliding_window, layer_types, num_hidden_layers, max_window_layers }) =>
    use_sliding_window === true &&
    (layer_types?.includes(SLIDING) ?? num_hidden_layers > (max_window_layers ?? 28)),
  defaults: { ...LLAMA.defaults, slidingWindow: 4096 },
}

/** By the name in `architectures` of config.json. */
export const ARCHITECTURES: ReadonlyMap<string, Architecture> = new Map([
  ['LlamaForCausalLM', LLAMA],
  ['MistralForCausalLM', MISTRAL],
  ['Qwen2ForCausalLM', QWEN2],
  [
    'Qwen3ForCausalLM',
    {
      ...QWEN2,
      modelType: 'qwen3',
      biases: ({ attention_bias }) => LLAMA.biases({ num_hidden_layers: 1, attention_bias }),
      headNorms: true,
      defaults: { ...QWEN2.defaults, headDim: 128 },
    },
  ],
  [
    'SmolLM3ForCausalLM',
    {
      ...LLAMA,
      modelType: 'smollm3',
      skipsRope: true,
      slides: (config) =>
        config.use_sliding_window === true &&
        (config.layer_types?.includes(SLIDING) ?? layersWithoutRope(config).length > 0),
      defaults: { ropeTheta: 2_000_000, tieWordEmbeddings: true },
    },
  ],
  [
    'SeedOssForCausalLM',
    {
      ...LLAMA,
      modelType: 'seed_oss',
      biases: ({ attention_bias, attention_out_bias, mlp_bias }) => ({
        qkv: attention_bias ?? true,
        attentionOutput: attention_out_bias ?? false,
        mlp: mlp_bias ?? false,
      }),
      defaults: { ...LLAMA.defaults, headDim: 128 },
    },
  ],
])

const DEFAULT_INTERVAL = 4

/** Of SmolLM3. The list may be longer than the model. */
export function layersWithoutRope(
  config: Pick<ArchitectureFields, 'num_hidden_layers' | 'no_rope_layers' | 'no_rope_layer_interval'>,
): number[] {
  const { num_hidden_layers: layers, no_rope_layers: list } = config
  const interval = config.no_rope_layer_interval ?? DEFAULT_INTERVAL
  const rotates = (layer: number) => (list ? list[layer] === 1 : (layer + 1) % interval !== 0)
  return Array.from({ length: layers }, (_, layer) => layer).filter((layer) => !rotates(layer))
}
