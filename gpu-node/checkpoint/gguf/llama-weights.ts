import type { ModelShape, TensorEntry } from '../../engine/engine-config.ts'
import type { GgufArchitecture } from './architectures.ts'
import type { GgufFile } from './gguf-file.ts'
import { ROPE_FACTORS } from './rope.ts'

const NAMES: Record<string, string> = {
  token_embd: 'model.embed_tokens',
  output_norm: 'model.norm',
  output: 'lm_head',
}
const LAYER_NAMES: Record<string, string> = {
  attn_norm: 'input_layernorm',
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_output: 'self_attn.o_proj',
  attn_q_norm: 'self_attn.q_norm',
  attn_k_norm: 'self_attn.k_norm',
  ffn_norm: 'post_attention_layernorm',
  ffn_gate: 'mlp.gate_proj',
  ffn_up: 'mlp.up_proj',
  ffn_down: 'mlp.down_proj',
}
const LAYER = /^blk\.(\d+)\.(.+)$/
const KIND = /\.(weight|bias)$/

/** The file's tensors under Hugging Face's names; a tensor without one keeps its own. */
export function llamaWeights(
  file: GgufFile,
  { numHeads, numKvHeads }: ModelShape,
  { interleaves }: GgufArchitecture,
): TensorEntry[] {
  const heads: Record<string, number> = interleaves ? { attn_q: numHeads, attn_k: numKvHeads } : {}
  // The shape has the frequencies that these factors give.
  const tensors = file.tensors.filter(({ name }) => name !== ROPE_FACTORS)
  return tensors.map(({ name, dtype, shape, offset }) => {
    const kind = KIND.exec(name)?.[0] ?? ''
    const stem = name.slice(0, name.length - kind.length)
    const [, layer, part = ''] = LAYER.exec(stem) ?? []
    const renamed = layer === undefined ? NAMES[stem] : LAYER_NAMES[part]
    const prefix = layer === undefined ? '' : `model.layers.${layer}.`
    const interleavedHeads = layer === undefined ? undefined : heads[part]
    return {
      name: renamed === undefined ? name : `${prefix}${renamed}${kind}`,
      file: 0,
      offset,
      dtype,
      shape: [...shape],
      ...(interleavedHeads !== undefined && { interleavedHeads }),
    }
  })
}
