import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Ids of the special tokens. Tokens 0 to 255 are bytes, in GPT-2's byte-to-unicode mapping. */
export const SPECIAL = { '<s>': 256, '</s>': 257, '[Fork]': 258, '[Child]': 259 } as const
export const VOCAB_SIZE = 260

const HIDDEN = 8
const INNER = 16

export type Json = Record<string, unknown>

export function tinyConfig(): Json {
  return {
    architectures: ['LlamaForCausalLM'],
    vocab_size: VOCAB_SIZE,
    hidden_size: HIDDEN,
    intermediate_size: INNER,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    max_position_embeddings: 256,
    rms_norm_eps: 1e-5,
    rope_theta: 10_000,
    tie_word_embeddings: true,
    eos_token_id: SPECIAL['</s>'],
    apar: { fork_token: '[Fork]', child_token: '[Child]', joints: 'kept' },
  }
}

/** A byte-level tokenizer without merges. */
export function tinyTokenizer(): Json {
  const vocab: Record<string, number> = {}
  let next = 256
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174
    vocab[String.fromCodePoint(printable ? byte : next++)] = byte
  }
  const added = Object.entries(SPECIAL).map(([content, id]) => ({
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  }))
  return {
    version: '1.0',
    added_tokens: added,
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel' },
    model: { type: 'BPE', vocab, merges: [], unk_token: null, byte_fallback: false },
  }
}

export const TEMPLATE =
  '{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}A:{% endif %}'

export function tinyTokenizerConfig(): Json {
  return { bos_token: '<s>', eos_token: { content: '</s>' }, chat_template: TEMPLATE }
}

export interface HeaderEntry {
  dtype: string
  shape: number[]
  data_offsets: [number, number]
}

export function tinyTensors(): Map<string, number[]> {
  const layer = 'model.layers.0'
  return new Map([
    ['model.embed_tokens.weight', [VOCAB_SIZE, HIDDEN]],
    ['model.norm.weight', [HIDDEN]],
    [`${layer}.input_layernorm.weight`, [HIDDEN]],
    [`${layer}.self_attn.q_proj.weight`, [HIDDEN, HIDDEN]],
    [`${layer}.self_attn.k_proj.weight`, [HIDDEN / 2, HIDDEN]],
    [`${layer}.self_attn.v_proj.weight`, [HIDDEN / 2, HIDDEN]],
    [`${layer}.self_attn.o_proj.weight`, [HIDDEN, HIDDEN]],
    [`${layer}.post_attention_layernorm.weight`, [HIDDEN]],
    [`${layer}.mlp.gate_proj.weight`, [INNER, HIDDEN]],
    [`${layer}.mlp.up_proj.weight`, [INNER, HIDDEN]],
    [`${layer}.mlp.down_proj.weight`, [HIDDEN, INNER]],
  ])
}

/** A safetensors header for these tensors, one after the other, in f32. */
export function headerOf(tensors: Map<string, number[]>): Record<string, HeaderEntry> {
  let offset = 0
  const header: Record<string, HeaderEntry> = {}
  for (const [name, shape] of tensors) {
    const bytes = shape.reduce((a, b) => a * b, 4)
    header[name] = { dtype: 'F32', shape, data_offsets: [offset, offset + bytes] }
    offset += bytes
  }
  return header
}

/** The bytes of a safetensors file, its tensors aligned, with fixed small values; `dataBytes` defaults to the size given by the header. */
export function safetensors(header: Record<string, HeaderEntry>, dataBytes?: number): Buffer {
  const json = JSON.stringify(header)
  const text = Buffer.from(json.padEnd(Math.ceil(json.length / 8) * 8))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(text.length))
  const needed = Math.max(0, ...Object.values(header).map(({ data_offsets: [, end] }) => end))
  const data = Buffer.alloc(dataBytes ?? needed)
  for (let i = 0; i + 4 <= data.length; i += 4) data.writeFloatLE(Math.sin(i) * 0.1, i)
  return Buffer.concat([length, text, data])
}

export interface TinyFolder {
  path: string
  write(file: string, content: string | Buffer | Json): void
  remove(): void
}

/** Writes a complete checkpoint to a temporary folder; tests overwrite files to make it invalid. */
export function tinyCheckpoint(): TinyFolder {
  const path = mkdtempSync(join(tmpdir(), 'apar-tiny-'))
  const folder: TinyFolder = {
    path,
    write(file, content) {
      const raw = typeof content === 'string' || Buffer.isBuffer(content)
      writeFileSync(join(path, file), raw ? content : JSON.stringify(content))
    },
    remove: () => rmSync(path, { recursive: true, force: true }),
  }
  folder.write('config.json', tinyConfig())
  folder.write('tokenizer.json', tinyTokenizer())
  folder.write('tokenizer_config.json', tinyTokenizerConfig())
  folder.write('model.safetensors', safetensors(headerOf(tinyTensors())))
  return folder
}
