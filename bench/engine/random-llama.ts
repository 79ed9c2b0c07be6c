import { writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Checkpoint, readCheckpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import { PLAIN_LLAMA, plainRope } from '../../gpu-node/checkpoint/plain-llama.ts'
import type { ModelShape } from '../../gpu-node/engine/engine-config.ts'
import { writeRandomSafetensors, writeRandomShards } from './random-weights.ts'
import { EOS, FIRST_TEXT, PIECES, tokenizerConfig, tokenizerFile } from './vocabulary.ts'
import { writtenOnce } from './written-once.ts'

/** Llama shapes for which others publish figures; `GQA` is a small model with grouped-query attention, like 1.1B. */
export const SHAPES = {
  '15M': shape({ hiddenSize: 288, intermediateSize: 768, numLayers: 6, numHeads: 6, numKvHeads: 6 }),
  '110M': shape({ hiddenSize: 768, intermediateSize: 2048, numLayers: 12, numHeads: 12, numKvHeads: 12 }),
  '1.1B': shape({ hiddenSize: 2048, intermediateSize: 5632, numLayers: 22, numHeads: 32, numKvHeads: 4 }),
  GQA: shape({ hiddenSize: 256, intermediateSize: 512, numLayers: 4, numHeads: 8, numKvHeads: 2 }),
} satisfies Record<string, ModelShape>
export type ModelName = keyof typeof SHAPES

function shape(
  sizes: Pick<ModelShape, 'hiddenSize' | 'intermediateSize' | 'numLayers' | 'numHeads' | 'numKvHeads'>,
): ModelShape {
  const headDim = sizes.hiddenSize / sizes.numHeads
  return {
    ...sizes,
    vocabSize: PIECES.length,
    headDim,
    contextTokens: 4096,
    rmsNormEps: 1e-5,
    rope: plainRope(10_000, headDim),
    ...PLAIN_LLAMA,
    tieWordEmbeddings: sizes.numKvHeads === sizes.numHeads,
  }
}

/** Folder of a model; all models together take some gigabytes. */
export function modelFolder(name: ModelName): string {
  return join(tmpdir(), 'apar-bench', `random-${name}`)
}

/** A checkpoint with random bf16 weights of this shape, written once per machine. */
export function randomLlama(name: ModelName): Checkpoint {
  return readCheckpoint(writtenOnce(modelFolder(name), (partial) => writeModel(partial, SHAPES[name])))
}

/** `shards`: the number of files of weights. */
export function writeModel(folder: string, model: ModelShape, shards = 1): void {
  const write = (file: string, content: unknown) => writeFileSync(join(folder, file), JSON.stringify(content))
  if (shards === 1) writeRandomSafetensors(join(folder, 'model.safetensors'), model)
  else writeRandomShards(folder, model, shards)
  write('tokenizer.json', tokenizerFile())
  write('tokenizer_config.json', tokenizerConfig())
  write('config.json', {
    architectures: ['LlamaForCausalLM'],
    vocab_size: model.vocabSize,
    hidden_size: model.hiddenSize,
    intermediate_size: model.intermediateSize,
    num_hidden_layers: model.numLayers,
    num_attention_heads: model.numHeads,
    num_key_value_heads: model.numKvHeads,
    max_position_embeddings: model.contextTokens,
    rms_norm_eps: model.rmsNormEps,
    rope_theta: model.rope.theta,
    tie_word_embeddings: model.tieWordEmbeddings,
    eos_token_id: EOS,
  })
}

/** A random prompt; prompts of different seeds share no prefix. */
export function randomPrompt(length: number, seed: number): Int32Array {
  let state = (seed + 1) * 2654435761
  return Int32Array.from({ length }, () => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0
    // Neither special tokens nor byte tokens.
    return FIRST_TEXT + (state % (PIECES.length - FIRST_TEXT))
  })
}
