import type { ModelShape, TensorEntry } from '../../engine/engine-config.ts'
import type { GgufFile } from './gguf-file.ts'

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
  ffn_norm: 'post_attention_layernorm',
  ffn_gate: 'mlp.gate_proj',
  ffn_up: 'mlp.up_proj',
  ffn_down: 'mlp.down_proj',
}
const LAYER = /^blk\.(\d+)\.(.+)$/

/**
 * The file's tensors under Hugging Face's names; a tensor without one keeps its own. ggml's architecture `llama` rotates
 * neighbouring elements, so its writer interleaves the two halves of each head's rows in q and k: `interleavedHeads`
 * tells the engine to undo that.
 */
export function llamaWeights(file: GgufFile, { numHeads, numKvHeads }: ModelShape): TensorEntry[] {
  const heads: Record<string, number> = { attn_q: numHeads, attn_k: numKvHeads }
  return file.tensors.map(({ name, dtype, shape, offset }) => {
    const stem = name.replace(/\.weight$/, '')
    const [, layer, part = ''] = LAYER.exec(stem) ?? []
    const renamed = layer === undefined ? NAMES[stem] : LAYER_NAMES[part]
    const prefix = layer === undefined ? '' : `model.layers.${layer}.`
    const interleavedHeads = layer === undefined ? undefined : heads[part]
    return {
      name: renamed === undefined ? name : `${prefix}${renamed}.weight`,
      file: 0,
      offset,
      dtype,
      shape: [...shape],
      ...(interleavedHeads !== undefined && { interleavedHeads }),
    }
  })
}
