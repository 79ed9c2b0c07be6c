import type { ModelShape } from '../engine/engine-config.ts'

/** The tensors of a model of this shape: Hugging Face name → shape ([out, in] for projections). */
export function llamaTensors(shape: ModelShape): Map<string, number[]> {
  const { hiddenSize: hidden, intermediateSize: inner, vocabSize, headDim, biases } = shape
  const queries = shape.numHeads * headDim
  const keys = shape.numKvHeads * headDim
  const tensors = new Map<string, number[]>([
    ['model.embed_tokens.weight', [vocabSize, hidden]],
    ['model.norm.weight', [hidden]],
  ])
  if (!shape.tieWordEmbeddings) tensors.set('lm_head.weight', [vocabSize, hidden])
  for (let layer = 0; layer < shape.numLayers; layer++) {
    const add = (name: string, ...size: number[]) => tensors.set(`model.layers.${layer}.${name}`, size)
    const norm = (name: string, size: number) => add(`${name}.weight`, size)
    const linear = (name: string, bias: boolean, out: number, from: number) => {
      add(`${name}.weight`, out, from)
      if (bias) add(`${name}.bias`, out)
    }
    norm('input_layernorm', hidden)
    linear('self_attn.q_proj', biases.qkv, queries, hidden)
    linear('self_attn.k_proj', biases.qkv, keys, hidden)
    linear('self_attn.v_proj', biases.qkv, keys, hidden)
    linear('self_attn.o_proj', biases.attentionOutput, hidden, queries)
    if (shape.headNorms) {
      norm('self_attn.q_norm', headDim)
      norm('self_attn.k_norm', headDim)
    }
    norm('post_attention_layernorm', hidden)
    linear('mlp.gate_proj', biases.mlp, inner, hidden)
    linear('mlp.up_proj', biases.mlp, inner, hidden)
    linear('mlp.down_proj', biases.mlp, hidden, inner)
  }
  return tensors
}
