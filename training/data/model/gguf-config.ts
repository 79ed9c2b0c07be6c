import type { GgufFile } from '../../../gpu-node/checkpoint/gguf/gguf-file.ts'
import { llamaShape } from '../../../gpu-node/checkpoint/gguf/llama-config.ts'
import type { Json } from './json.ts'

/** transformers' names by `general.architecture`. */
const ARCHITECTURES: ReadonlyMap<string, { architecture: string; modelType: string }> = new Map([
  ['llama', { architecture: 'LlamaForCausalLM', modelType: 'llama' }],
  ['qwen2', { architecture: 'Qwen2ForCausalLM', modelType: 'qwen2' }],
  ['qwen3', { architecture: 'Qwen3ForCausalLM', modelType: 'qwen3' }],
  ['smollm3', { architecture: 'SmolLM3ForCausalLM', modelType: 'smollm3' }],
])

/** Llama 3.1 and 3.2: their GGUF files have the divisors that these make, not the numbers themselves. */
const LLAMA3_SCALINGS: readonly Json[] = [8, 32].map((factor) => ({
  rope_type: 'llama3',
  factor,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 8192,
}))

/**
 * The file's model in the words of config.json. GGUF has rotary embeddings in other words, so there is one config for
 * each kind of scaling that it may be.
 * @throws StartupError for a model that is not served.
 */
export function ggufConfigs(file: GgufFile): { configs: Json[]; ropeFrequencies: readonly number[] } {
  const { shape } = llamaShape(file)
  const name = String(file.metadata.get('general.architecture'))
  const { architecture, modelType } = ARCHITECTURES.get(name) ?? { architecture: '', modelType: '' }
  const config: Json = {
    architectures: [architecture],
    model_type: modelType,
    hidden_act: 'silu',
    vocab_size: shape.vocabSize,
    hidden_size: shape.hiddenSize,
    intermediate_size: shape.intermediateSize,
    num_hidden_layers: shape.numLayers,
    num_attention_heads: shape.numHeads,
    num_key_value_heads: shape.numKvHeads,
    head_dim: shape.headDim,
    max_position_embeddings: shape.contextTokens,
    // GGUF has it in f32.
    rms_norm_eps: Number(shape.rmsNormEps.toPrecision(7)),
    rope_theta: shape.rope.theta,
    tie_word_embeddings: shape.tieWordEmbeddings,
    ...(modelType === 'llama' && { attention_bias: shape.biases.qkv, mlp_bias: shape.biases.mlp }),
    ...(modelType === 'smollm3' && {
      no_rope_layers: Array.from({ length: shape.numLayers }, (_, layer) =>
        Number(!shape.layersWithoutRope.includes(layer)),
      ),
      use_sliding_window: false,
    }),
    torch_dtype: 'bfloat16',
  }
  const scalings = [scalingIn(file, name), ...LLAMA3_SCALINGS]
  const configs = scalings.map((scaling) => (scaling ? { ...config, rope_scaling: scaling } : config))
  return { configs, ropeFrequencies: shape.rope.frequencies }
}

function scalingIn({ metadata }: GgufFile, name: string): Json | undefined {
  const field = (key: string) => metadata.get(`${name}.rope.scaling.${key}`)
  const factor = field('factor')
  if (typeof factor !== 'number' || factor === 0 || factor === 1) return undefined
  const type = field('type') ?? 'linear'
  const original = field('original_context_length')
  return {
    rope_type: type,
    factor,
    ...(typeof original === 'number' && { original_max_position_embeddings: original }),
  }
}
