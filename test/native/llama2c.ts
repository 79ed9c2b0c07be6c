import { readFileSync, writeFileSync } from 'node:fs'
import { PLAIN_LLAMA, plainRope } from '../../gpu-node/checkpoint/plain-llama.ts'
import type { ModelShape, TensorEntry } from '../../gpu-node/engine/engine-config.ts'

/**
 * Converts a checkpoint in llama2.c's format (seven int32, then float32 tensors, each stacked over the layers)
 * for the engine. llama2.c rotates neighbouring elements (2i, 2i+1), Hugging Face's convention pairs i with i +
 * head_dim / 2, so the rows of q and k are reordered. Source: karpathy/llama2.c, run.c.
 */
export function convertLlama2c(from: string, to: string): { shape: ModelShape; tensors: TensorEntry[] } {
  const bytes = readFileSync(from)
  const header = Array.from({ length: 7 }, (_, i) => bytes.readInt32LE(i * 4))
  const [dim = 0, hidden = 0, layers = 0, heads = 0, kvHeads = 0, vocab = 0, context = 0] = header
  const headDim = dim / heads
  const shape: ModelShape = {
    vocabSize: vocab,
    hiddenSize: dim,
    intermediateSize: hidden,
    numLayers: layers,
    numHeads: heads,
    numKvHeads: kvHeads,
    headDim,
    contextTokens: context,
    rmsNormEps: 1e-5,
    rope: plainRope(10_000, headDim),
    ...PLAIN_LLAMA,
    tieWordEmbeddings: true,
  }
  const tensors: TensorEntry[] = []
  const out: Buffer[] = []
  let read = 28
  let written = 0
  const take = (name: string, size: number[], rowHeads = 0) => {
    const length = size.reduce((a, b) => a * b, 4)
    const data = bytes.subarray(read, read + length)
    read += length
    tensors.push({ name, file: 0, offset: written, dtype: 'F32', shape: size })
    out.push(rowHeads > 0 ? pairHalves(data, rowHeads, headDim, dim * 4) : data)
    written += length
  }
  const each = (name: string, size: number[], rowHeads = 0) => {
    for (let layer = 0; layer < layers; layer++) take(`model.layers.${layer}.${name}.weight`, size, rowHeads)
  }
  take('model.embed_tokens.weight', [vocab, dim])
  each('input_layernorm', [dim])
  each('self_attn.q_proj', [dim, dim], heads)
  each('self_attn.k_proj', [kvHeads * headDim, dim], kvHeads)
  each('self_attn.v_proj', [kvHeads * headDim, dim])
  each('self_attn.o_proj', [dim, dim])
  each('post_attention_layernorm', [dim])
  each('mlp.gate_proj', [hidden, dim])
  each('mlp.down_proj', [dim, hidden])
  each('mlp.up_proj', [hidden, dim])
  take('model.norm.weight', [dim])
  writeFileSync(to, Buffer.concat(out))
  return { shape, tensors }
}

function pairHalves(data: Buffer, heads: number, headDim: number, rowBytes: number): Buffer {
  const rows: Buffer[] = []
  for (let head = 0; head < heads; head++) {
    for (const odd of [0, 1]) {
      for (let i = odd; i < headDim; i += 2) {
        const at = (head * headDim + i) * rowBytes
        rows.push(data.subarray(at, at + rowBytes))
      }
    }
  }
  return Buffer.concat(rows)
}

/** Reads llama2.c's tokenizer file: int32 longest piece, then per piece float32 score, int32 length, bytes. */
export function readLlama2cPieces(path: string): Buffer[] {
  const bytes = readFileSync(path)
  const pieces: Buffer[] = []
  for (let at = 4; at < bytes.length; ) {
    const length = bytes.readInt32LE(at + 4)
    const piece = bytes.subarray(at + 8, at + 8 + length)
    const byte = /^<0x([0-9A-F]{2})>$/.exec(piece.toString('latin1'))?.[1]
    pieces.push(byte === undefined ? piece : Buffer.from(byte, 'hex'))
    at += 8 + length
  }
  return pieces
}
