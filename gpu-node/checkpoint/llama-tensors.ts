import type { ModelShape } from '../engine/engine-config.ts'

/** The tensors of a Llama model: Hugging Face name → shape ([out, in] for projections). */
export function llamaTensors(shape: ModelShape): Map<string, number[]> {
  const { hiddenSize: hidden, intermediateSize: inner, vocabSize } = shape
  const queries = shape.numHeads * shape.headDim
  const keys = shape.numKvHeads * shape.headDim
  const tensors = new Map<string, number[]>([
    ['model.embed_tokens.weight', [vocabSize, hidden]],
    ['model.norm.weight', [hidden]],
  ])
  if (!shape.tieWordEmbeddings) tensors.set('lm_head.weight', [vocabSize, hidden])
  for (let layer = 0; layer < shape.numLayers; layer++) {
    const add = (name: string, ...size: number[]) => tensors.set(`model.layers.${layer}.${name}.weight`, size)
    add('input_layernorm', hidden)
    add('self_attn.q_proj', queries, hidden)
    add('self_attn.k_proj', keys, hidden)
    add('self_attn.v_proj', keys, hidden)
    add('self_attn.o_proj', hidden, queries)
    add('post_attention_layernorm', hidden)
    add('mlp.gate_proj', inner, hidden)
    add('mlp.up_proj', inner, hidden)
    add('mlp.down_proj', hidden, inner)
  }
  return tensors
}
