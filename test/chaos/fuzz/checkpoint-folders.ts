import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import fc from 'fast-check'
import { readCheckpoint } from '../../../gpu-node/checkpoint/checkpoint.ts'
import { readConfig } from '../../../gpu-node/checkpoint/config.ts'
import { readMedusaHeads } from '../../../gpu-node/checkpoint/medusa/medusa-heads.ts'
import { tensorBytes } from '../../../gpu-node/checkpoint/tensor-blocks.ts'
import { readTokenizerFiles } from '../../../gpu-node/checkpoint/tokenizer-files.ts'
import type { TensorEntry } from '../../../gpu-node/engine/engine-config.ts'
import { packageRoot } from '../../../gpu-node/package-root.ts'
import { StartupError } from '../../../gpu-node/startup-error.ts'
import { checkTemplate } from '../../../gpu-node/text/prompt-encoder.ts'
import { tokenBytes } from '../../../gpu-node/text/token-bytes.ts'
import {
  type HeaderEntry,
  headerOf,
  safetensors,
  tinyConfig,
  tinyTensors,
  tinyTokenizer,
  tinyTokenizerConfig,
} from '../../support/tiny-checkpoint.ts'
import { seeded } from '../scenario.ts'
import { mutatedBytes } from './binary-mutations.ts'
import type { CheckpointFile, Span } from './checkpoint-files.ts'
import { mutated } from './mutations.ts'

type Files = Record<string, Buffer>
type Json = Record<string, unknown>

const GOLDEN = join(packageRoot, 'test/golden')
const json = (value: unknown) => Buffer.from(JSON.stringify(value))

/** One entry for each file of a checkpoint's folder that is not read alone: the others are as they should be. */
export function checkpointFolders(): CheckpointFile[] {
  const apar7b = filesOf('torch/apar-7b')
  const tiny = tinyFiles()
  const template = readFileSync(join(GOLDEN, 'chat-templates/qwen3.jinja'))
  const withMerges = filesOf('vocab-merges/qwen2')
  return [
    asBytes('SentencePiece model', apar7b, 'tokenizer.model'),
    ...['config.json', 'added_tokens.json', 'special_tokens_map.json'].map((file) =>
      asJson(file, apar7b, file),
    ),
    asJson('index of shards', apar7b, 'pytorch_model.bin.index.json'),
    asJson('Medusa configuration', apar7b, 'medusa/config.json', readMedusa),
    asBytes('Medusa heads', apar7b, 'medusa/medusa_lm_head.pt', readMedusa),
    ...medusaFolders(tiny),
    asJson('tokenizer.json', { ...tiny, 'tokenizer.json': json(smallTokenizer()) }, 'tokenizer.json'),
    asJson('tokenizer_config.json', withAddedTokens(apar7b), 'tokenizer_config.json'),
    asJson('chat_template.json', templateIn(tiny), 'chat_template.json'),
    asJson(
      'generation_config.json',
      { ...tiny, 'generation_config.json': json(GENERATION) },
      'generation_config.json',
    ),
    asBytes(
      'chat template',
      { ...tiny, 'chat_template.jinja': template },
      'chat_template.jinja',
      readTemplate,
    ),
    asBytes('vocab.json', withMerges, 'vocab.json', readVocabulary),
    asBytes('merges.txt', withMerges, 'merges.txt', readVocabulary),
    ...quantisedFolders(tiny),
    ...adapterFolders(tiny),
  ]
}

function asBytes(name: string, files: Files, file: string, read = readFolder): CheckpointFile {
  const valid = files[file] ?? Buffer.alloc(0)
  const mutatedFile = (seed: number) => mutatedBytes(valid, seeded(seed))
  return { name, file, others: without(files, file), valid, mutated: mutatedFile, read }
}

/** Edits of the JSON tree. */
function asJson(name: string, files: Files, file: string, read = readFolder): CheckpointFile {
  const texts = mutated([JSON.parse(String(files[file]))])
  const mutatedFile = (seed: number) => Buffer.from(fc.sample(texts, { numRuns: 1, seed })[0] ?? '')
  return { ...asBytes(name, files, file, read), mutated: mutatedFile }
}

/** Edits of the tree of a safetensors header; the length before it is right. */
function asHeader(name: string, files: Files, file: string, read = readFolder): CheckpointFile {
  const whole = files[file] ?? Buffer.alloc(0)
  const data = 8 + Number(whole.readBigUInt64LE())
  const headers = mutated([JSON.parse(whole.toString('utf8', 8, data))])
  const mutatedFile = (seed: number) => {
    const header = Buffer.from(fc.sample(headers, { numRuns: 1, seed })[0] ?? '')
    const length = Buffer.alloc(8)
    length.writeBigUInt64LE(BigInt(header.length))
    return Buffer.concat([length, header, whole.subarray(data)])
  }
  return { ...asBytes(name, files, file, read), mutated: mutatedFile }
}

/** As a gpu node's main thread reads a folder before it opens the engine. */
function readFolder(path: string): Span[] {
  const { weights, text, digest } = readCheckpoint(dirname(path))
  if (digest === '') throw new Error('no digest')
  tokenBytes(text)
  return spansIn(path, weights)
}

function spansIn(path: string, { files, tensors }: { files: string[]; tensors: TensorEntry[] }): Span[] {
  const own = tensors.filter(({ file }) => files[file] === path)
  return own.map(({ offset, dtype, shape }) => [offset, offset + tensorBytes(dtype, shape)])
}

/** A folder with nothing but a tokenizer. */
function readVocabulary(path: string): Span[] {
  tokenBytes(readTokenizerFiles(dirname(path)))
  return []
}

function readMedusa(path: string): Span[] {
  const { shape } = readConfig(join(GOLDEN, 'torch/apar-7b'))
  return spansIn(path, readMedusaHeads(dirname(path), shape).weights)
}

function readTemplate(path: string): Span[] {
  const { text } = readCheckpoint(dirname(path))
  try {
    checkTemplate(text, () => {})
  } catch (error) {
    // What the library says of a template is an answer, whatever its class.
    throw error instanceof StartupError ? new StartupError(error.code, error.message) : error
  }
  return []
}

function filesOf(folder: string): Files {
  const path = join(GOLDEN, folder)
  const names = readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.name.endsWith('.jsonl'))
    .map((entry) => join(entry.parentPath, entry.name))
  return Object.fromEntries(names.map((name) => [name.slice(path.length + 1), readFileSync(name)]))
}

function without(files: Files, ...names: string[]): Files {
  return Object.fromEntries(Object.entries(files).filter(([name]) => !names.includes(name)))
}

function tinyFiles(): Files {
  return {
    'config.json': json(tinyConfig()),
    'tokenizer.json': json(tinyTokenizer()),
    'tokenizer_config.json': json(tinyTokenizerConfig()),
    'model.safetensors': safetensors(headerOf(tinyTensors())),
  }
}

/** With few pieces, so that most edits are elsewhere. */
function smallTokenizer(): Json {
  const tokenizer = tinyTokenizer()
  return {
    ...tokenizer,
    model: { ...(tokenizer.model as Json), vocab: { a: 0, b: 1, ab: 2 }, merges: ['a b'] },
  }
}

function withAddedTokens(files: Files): Files {
  const config = {
    ...tinyTokenizerConfig(),
    ...{ tokenizer_class: 'LlamaTokenizer', legacy: false, add_prefix_space: true, add_bos_token: true },
    added_tokens_decoder: { 1: { content: '<s>', special: true }, 2: { content: '</s>', special: true } },
    additional_special_tokens: ['<s>', { content: '</s>', lstrip: true }],
  }
  return { ...files, 'tokenizer_config.json': json(config) }
}

function templateIn(files: Files): Files {
  const { chat_template: template, ...config } = tinyTokenizerConfig()
  const templates = [
    { name: 'default', template },
    { name: 'tool_use', template: 'x' },
  ]
  const inFile = json({ chat_template: templates })
  return { ...files, 'tokenizer_config.json': json(config), 'chat_template.json': inFile }
}

const GENERATION = {
  ...{ do_sample: true, temperature: 0.6, top_p: 0.9, top_k: 50, min_p: 0.1, repetition_penalty: 1.1 },
  eos_token_id: [257, 1],
}

const Q = 'model.layers.0.self_attn.q_proj'
type Stored = Record<string, [dtype: string, shape: number[]]>

/** One layer of codes, [8, 8], in each way in which codes are stored: its configuration, and its tensors. */
const QUANTISED: Record<string, { config: Json; layer: Stored }> = {
  'FP8 blocks': {
    config: { quant_method: 'fp8', fmt: 'e4m3', weight_block_size: [4, 8] },
    layer: { [`${Q}.weight`]: ['F8_E4M3', [8, 8]], [`${Q}.weight_scale_inv`]: ['BF16', [2, 1]] },
  },
  'compressed-tensors': {
    config: {
      ...{ quant_method: 'compressed-tensors', format: 'float-quantized', ignore: ['lm_head'] },
      config_groups: {
        group_0: { weights: { num_bits: 8, type: 'float', symmetric: true, strategy: 'channel' } },
      },
    },
    layer: { [`${Q}.weight`]: ['F8_E4M3', [8, 8]], [`${Q}.weight_scale`]: ['F32', [8, 1]] },
  },
  AWQ: {
    config: { quant_method: 'awq', bits: 4, group_size: 8, zero_point: true, version: 'gemm' },
    layer: {
      [`${Q}.qweight`]: ['I32', [8, 1]],
      [`${Q}.qzeros`]: ['I32', [1, 1]],
      [`${Q}.scales`]: ['F16', [1, 8]],
    },
  },
  GPTQ: {
    config: { quant_method: 'gptq', bits: 4, group_size: 8, desc_act: true, checkpoint_format: 'gptq_v2' },
    layer: {
      [`${Q}.qweight`]: ['I32', [1, 8]],
      [`${Q}.qzeros`]: ['I32', [1, 1]],
      [`${Q}.scales`]: ['F16', [1, 8]],
      [`${Q}.g_idx`]: ['I32', [8]],
      [`${Q}.bias`]: ['F16', [8]],
    },
  },
}
const BYTES: Record<string, number> = { F32: 4, I32: 4, F16: 2, BF16: 2, F8_E4M3: 1 }

function quantisedFolders(tiny: Files): CheckpointFile[] {
  return Object.entries(QUANTISED).flatMap(([name, { config, layer }]) => {
    const files = {
      ...tiny,
      'config.json': json({ ...tinyConfig(), quantization_config: config }),
      'model.safetensors': withLayer(layer),
    }
    return [
      asJson(`configuration of ${name}`, files, 'config.json'),
      asHeader(`layers of ${name}`, files, 'model.safetensors'),
    ]
  })
}

function withLayer(layer: Stored): Buffer {
  const tensors = tinyTensors()
  tensors.delete(`${Q}.weight`)
  const header = headerOf(tensors)
  let offset = Math.max(...Object.values(header).map(({ data_offsets: [, end] }) => end))
  for (const [name, [dtype, shape]] of Object.entries(layer)) {
    const end = offset + shape.reduce((product, size) => product * size, BYTES[dtype] ?? 0)
    header[name] = { dtype, shape, data_offsets: [offset, end] }
    offset = end
  }
  const whole = safetensors(header)
  // A bias of zeros, as the writers of GPTQ add it.
  const bias = header[`${Q}.bias`]
  if (bias)
    whole.fill(0, whole.length - offset + bias.data_offsets[0], whole.length - offset + bias.data_offsets[1])
  return whole
}

/** Heads in safetensors, found beside the checkpoint: with projections of their own, and with lm_head. */
function medusaFolders(tiny: Files): CheckpointFile[] {
  return [false, true].flatMap((tied) => {
    const shape = { medusa_num_heads: 2, medusa_num_layers: 1, hidden_size: 8, vocab_size: 260 }
    const tensors = new Map(
      [0, 1].flatMap((head): [string, number[]][] => [
        [`${head}.0.linear.weight`, [8, 8]],
        [`${head}.0.linear.bias`, [8]],
        ...(tied ? [] : [[`${head}.1.weight`, [260, 8]] satisfies [string, number[]]]),
      ]),
    )
    const files = {
      ...tiny,
      'medusa/config.json': json({ ...shape, tie_lm_head: tied, base_model_name_or_path: 'tiny' }),
      'medusa/medusa_lm_head.safetensors': safetensors(headerOf(tensors)),
    }
    const name = tied ? 'that share lm_head' : 'with projections'
    return [
      asJson(`configuration of heads ${name}`, files, 'medusa/config.json', readHeads),
      asHeader(`tensors of heads ${name}`, files, 'medusa/medusa_lm_head.safetensors', readHeads),
    ]
  })
}

/** With the checkpoint that they lie in. */
function readHeads(path: string): Span[] {
  const { medusa } = readCheckpoint(dirname(dirname(path)))
  return medusa ? spansIn(path, medusa.weights) : []
}

function adapterFolders(tiny: Files): CheckpointFile[] {
  const module = (name: string) => `base_model.model.model.${name}`
  const tensors = new Map([
    [module('layers.0.self_attn.q_proj.lora_A.weight'), [2, 8]],
    [module('layers.0.self_attn.q_proj.lora_B.weight'), [8, 2]],
    [module('embed_tokens.token_adapter.trainable_tokens_delta'), [2, 8]],
  ])
  const header: Record<string, HeaderEntry> = headerOf(tensors)
  const config = {
    ...{ peft_type: 'LORA', r: 2, lora_alpha: 4, use_rslora: true, target_modules: ['q_proj'] },
    ...{
      rank_pattern: { 'layers.0.q_proj': 2 },
      alpha_pattern: {},
      lora_dropout: 0.1,
      task_type: 'CAUSAL_LM',
    },
    trainable_token_indices: { embed_tokens: [258, 259] },
  }
  const inBase = Object.fromEntries(Object.entries(tiny).map(([name, content]) => [`base/${name}`, content]))
  const files: Files = {
    ...inBase,
    'adapter_config.json': json(config),
    'adapter_model.safetensors': safetensors(header),
    'config.json': json({ vocab_size: 260, hidden_size: 8, apar: tinyConfig().apar }),
  }
  return [
    asJson('configuration of an adapter', files, 'adapter_config.json', readAdapter),
    asJson('forking of an adapter', files, 'config.json', readAdapter),
    asHeader('tensors of an adapter', files, 'adapter_model.safetensors', readAdapter),
    asBytes('file of an adapter', files, 'adapter_model.safetensors', readAdapter),
  ]
}

function readAdapter(path: string): Span[] {
  const adapter = dirname(path)
  return spansIn(path, readCheckpoint(join(adapter, 'base'), { adapter }).weights)
}
