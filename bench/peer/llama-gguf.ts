import { closeSync, openSync, readSync } from 'node:fs'
import type { Checkpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import type { ModelShape, TensorEntry } from '../../gpu-node/engine/engine-config.ts'
import { BOS, CHAT_TEMPLATE, EOS, PIECES, pieceType } from '../engine/vocabulary.ts'
import { type GgufTensor, type GgufValue, writeGguf } from './gguf.ts'

/** Writes one of the bench's random bf16 models as GGUF for llama.cpp: same values, matrices stored as `type`. */
export function writeLlamaGguf(
  path: string,
  checkpoint: Pick<Checkpoint, 'shape' | 'weights'>,
  type: 'BF16' | 'F32',
): void {
  const { shape, weights } = checkpoint
  const files = weights.files.map((file) => openSync(file, 'r'))
  try {
    const tensors = weights.tensors.map((entry): GgufTensor => {
      // llama.cpp needs norms in f32.
      const stored = entry.shape.length === 1 ? 'F32' : type
      const data = () => {
        const bytes = readTensor(files[entry.file] ?? -1, entry)
        const rows = rotatedPairwise(entry, shape, bytes)
        return stored === 'F32' ? widen(rows) : rows
      }
      return { name: ggufName(entry.name), shape: entry.shape, type: stored, data }
    })
    writeGguf(path, metadata(shape, type), tensors)
  } finally {
    files.forEach(closeSync)
  }
}

function metadata(shape: ModelShape, type: 'BF16' | 'F32'): Record<string, GgufValue> {
  return {
    'general.architecture': { string: 'llama' },
    'general.name': { string: 'random weights' },
    'general.file_type': { u32: type === 'BF16' ? 32 : 0 },
    'llama.vocab_size': { u32: shape.vocabSize },
    'llama.context_length': { u32: shape.contextTokens },
    'llama.embedding_length': { u32: shape.hiddenSize },
    'llama.block_count': { u32: shape.numLayers },
    'llama.feed_forward_length': { u32: shape.intermediateSize },
    'llama.attention.head_count': { u32: shape.numHeads },
    'llama.attention.head_count_kv': { u32: shape.numKvHeads },
    'llama.attention.layer_norm_rms_epsilon': { f32: shape.rmsNormEps },
    'llama.rope.dimension_count': { u32: shape.headDim },
    'llama.rope.freq_base': { f32: shape.rope.theta },
    'tokenizer.ggml.model': { string: 'llama' },
    'tokenizer.ggml.tokens': { strings: PIECES },
    'tokenizer.ggml.scores': { f32s: PIECES.map((_, id) => -id) },
    'tokenizer.ggml.token_type': { i32s: PIECES.map((_, id) => pieceType(id)) },
    'tokenizer.ggml.bos_token_id': { u32: BOS },
    'tokenizer.ggml.eos_token_id': { u32: EOS },
    'tokenizer.ggml.unknown_token_id': { u32: 0 },
    'tokenizer.chat_template': { string: CHAT_TEMPLATE },
  }
}

const NAMES: Record<string, string> = {
  'model.embed_tokens': 'token_embd',
  'model.norm': 'output_norm',
  lm_head: 'output',
  input_layernorm: 'attn_norm',
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.o_proj': 'attn_output',
  'self_attn.q_norm': 'attn_q_norm',
  'self_attn.k_norm': 'attn_k_norm',
  post_attention_layernorm: 'ffn_norm',
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
}

/** Converts Hugging Face's name of a tensor to llama.cpp's. */
export function ggufName(name: string): string {
  const [, stem = '', kind] = /^(.*)\.(weight|bias)$/.exec(name) ?? []
  const [, layer, inLayer] = /^model\.layers\.(\d+)\.(.*)$/.exec(stem) ?? []
  const theirs = NAMES[inLayer ?? stem]
  if (theirs === undefined) throw new Error(`llama.cpp has no tensor for ${name}`)
  return layer === undefined ? `${theirs}.${kind}` : `blk.${layer}.${theirs}.${kind}`
}

/**
 * Reorders the rows of q and k, or their biases, within each head: rotary embeddings in llama.cpp rotate neighbouring elements (2i,
 * 2i+1), in Hugging Face's convention the elements i and i + headDim / 2. Source: llama.cpp, conversion of Llama
 * models.
 */
export function rotatedPairwise(
  { name, shape: size }: Pick<TensorEntry, 'name' | 'shape'>,
  { headDim }: Pick<ModelShape, 'headDim'>,
  bytes: Uint8Array,
): Uint8Array {
  if (!/\.(q|k)_proj\.(weight|bias)$/.test(name)) return bytes
  const [rows = 0] = size
  const rowBytes = bytes.length / rows
  const out = new Uint8Array(bytes.length)
  for (let row = 0; row < rows; row++) {
    const inHead = row % headDim
    const half = inHead < headDim / 2 ? 0 : 1
    const to = row - inHead + 2 * (inHead - (half * headDim) / 2) + half
    out.set(bytes.subarray(row * rowBytes, (row + 1) * rowBytes), to * rowBytes)
  }
  return out
}

/** Converts bf16 to f32, without rounding. */
export function widen(bytes: Uint8Array): Uint8Array {
  const narrow = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2)
  return new Uint8Array(Uint32Array.from(narrow, (bits) => bits << 16).buffer)
}

function readTensor(file: number, { name, offset, dtype, shape: size }: TensorEntry): Uint8Array {
  if (dtype !== 'BF16') throw new Error(`${name} is ${dtype}`)
  const bytes = new Uint8Array(size.reduce((a, b) => a * b, 2))
  for (let done = 0; done < bytes.length; ) {
    const count = readSync(file, bytes, done, bytes.length - done, offset + done)
    if (count === 0) throw new Error(`${name}: the file ends early`)
    done += count
  }
  return bytes
}
