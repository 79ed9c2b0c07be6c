import { copyFileSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { z } from 'zod'
import { PLAIN_LLAMA, plainRope } from '../../gpu-node/checkpoint/plain-llama.ts'
import type { ModelShape } from '../../gpu-node/engine/engine-config.ts'
import { packageRoot } from '../../gpu-node/package-root.ts'
import { parseJson } from '../../shared/parse.ts'
import { writeRandomSafetensors } from '../engine/random-weights.ts'
import { writtenOnce } from '../engine/written-once.ts'

/** Its tokenizer has [Fork] and [Child], and is part of the repository; its weights are not. */
const TOKENIZER_OF = join(packageRoot, 'models/smollm2-135m-apar')
const FILES = ['tokenizer.json', 'tokenizer_config.json']

type Sizes = Pick<
  ModelShape,
  'hiddenSize' | 'intermediateSize' | 'numLayers' | 'numHeads' | 'numKvHeads' | 'tieWordEmbeddings'
>

/** SmolLM2-135M, TinyLlama-1.1B and Llama-2-7B but for their vocabularies. */
const SHAPES: Readonly<Record<string, Sizes>> = {
  '135M': {
    ...{ hiddenSize: 576, intermediateSize: 1536, numLayers: 30, numHeads: 9, numKvHeads: 3 },
    tieWordEmbeddings: true,
  },
  '1.1B': {
    ...{ hiddenSize: 2048, intermediateSize: 5632, numLayers: 22, numHeads: 32, numKvHeads: 4 },
    tieWordEmbeddings: false,
  },
  '7B': {
    ...{ hiddenSize: 4096, intermediateSize: 11008, numLayers: 32, numHeads: 32, numKvHeads: 32 },
    tieWordEmbeddings: false,
  },
}

/** The folder of a model of this shape with random weights, which is written once per machine; undefined for another name. */
export function randomModel(name: string): string | undefined {
  const sizes = Object.hasOwn(SHAPES, name) ? SHAPES[name] : undefined
  if (!sizes) return undefined
  const folder = join(tmpdir(), 'apar-bench', `random-forking-${name}`)
  return writtenOnce(folder, (partial) => writeRandomModel(partial, sizes))
}

export function writeRandomModel(folder: string, sizes: Sizes): void {
  const file = readFileSync(join(TOKENIZER_OF, 'config.json'), 'utf8')
  const config = parseJson(z.looseObject({ vocab_size: z.int(), rope_theta: z.number() }), file)
  const headDim = sizes.hiddenSize / sizes.numHeads
  for (const name of FILES) copyFileSync(join(TOKENIZER_OF, name), join(folder, name))
  writeRandomSafetensors(join(folder, 'model.safetensors'), {
    ...{ ...PLAIN_LLAMA, ...sizes, headDim, vocabSize: config.vocab_size },
    ...{ contextTokens: 4096, rmsNormEps: 1e-5, rope: plainRope(config.rope_theta, headDim) },
  })
  const ownSizes = {
    ...{ hidden_size: sizes.hiddenSize, intermediate_size: sizes.intermediateSize, head_dim: headDim },
    ...{ num_hidden_layers: sizes.numLayers, num_attention_heads: sizes.numHeads },
    ...{ num_key_value_heads: sizes.numKvHeads, max_position_embeddings: 4096 },
    tie_word_embeddings: sizes.tieWordEmbeddings,
  }
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...config, ...ownSizes }))
}
