import { copyFileSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { type Checkpoint, readCheckpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import { readSafetensors } from '../../gpu-node/checkpoint/safetensors.ts'
import { openEngine } from '../../gpu-node/engine/binding.ts'
import type { TensorEntry } from '../../gpu-node/engine/engine-config.ts'
import { toEngineConfig } from '../../gpu-node/engine-options.ts'
import { greedyAnswer } from '../support/greedy-answer.ts'
import {
  headerOf,
  type Json,
  safetensors,
  type TinyFolder,
  tinyCheckpoint,
  tinyConfig,
  VOCAB_SIZE,
} from '../support/tiny-checkpoint.ts'

const GOLDEN = join(import.meta.dirname, '../golden/quantised')
const CONFIGS: Record<string, Json> = JSON.parse(readFileSync(join(GOLDEN, 'configs.json'), 'utf8'))
const HIDDEN = 32
const INNER = 48
const PROMPT = Int32Array.from({ length: 20 }, (_, i) => 11 * i)

/** What the golden files do not have: these layers are plain in quantised checkpoints too. */
const OTHERS = new Map([
  ['model.embed_tokens.weight', [VOCAB_SIZE, HIDDEN]],
  ['model.norm.weight', [HIDDEN]],
  ['model.layers.0.input_layernorm.weight', [HIDDEN]],
  ['model.layers.0.self_attn.k_proj.weight', [HIDDEN / 2, HIDDEN]],
  ['model.layers.0.self_attn.v_proj.weight', [HIDDEN / 2, HIDDEN]],
  ['model.layers.0.post_attention_layernorm.weight', [HIDDEN]],
  ['model.layers.0.mlp.up_proj.weight', [INNER, HIDDEN]],
])

const folders: TinyFolder[] = []
afterAll(() => {
  for (const folder of folders) folder.remove()
})

function configWith(quantization: Json | undefined): Json {
  const sizes = { hidden_size: HIDDEN, intermediate_size: INNER }
  return { ...tinyConfig(), ...sizes, quantization_config: quantization }
}

/** A checkpoint of two shards: the layers of a golden file, and the others. */
function folderWith(layers: string, quantization: Json | undefined): TinyFolder {
  const folder = tinyCheckpoint()
  folders.push(folder)
  rmSync(join(folder.path, 'model.safetensors'))
  folder.write('config.json', configWith(quantization))
  folder.write('others.safetensors', safetensors(headerOf(OTHERS)))
  copyFileSync(join(GOLDEN, layers), join(folder.path, layers))
  const stored = readSafetensors(join(folder.path, layers)).map(({ name }) => [name, layers] as const)
  const others = [...OTHERS.keys()].map((name) => [name, 'others.safetensors'] as const)
  folder.write('model.safetensors.index.json', { weight_map: Object.fromEntries([...stored, ...others]) })
  return folder
}

function checkpointWith(layers: string, quantization: Json | undefined): Checkpoint {
  return readCheckpoint(folderWith(layers, quantization).path)
}

describe('a quantised checkpoint computes with the weights that its codes stand for', () => {
  const answers = new Set<string>()

  test.each(Object.entries(CONFIGS))('%s', async (kind, quantization) => {
    const quantised = checkpointWith(`${kind}.safetensors`, quantization)
    const plain = checkpointWith(`${kind}.weights.safetensors`, undefined)
    expect(quantised.digest).not.toBe(plain.digest)
    for (const dtype of ['f32', 'bf16', 'int8', 'int4'] as const) {
      const expected = await greedyAnswer(plain, PROMPT, dtype)
      expect(expected.length).toBeGreaterThan(50)
      expect(await greedyAnswer(quantised, PROMPT, dtype)).toEqual(expected)
      answers.add(expected.join())
    }
  })

  test('and no two of them answer alike', () => {
    expect(answers.size).toBe(4 * Object.keys(CONFIGS).length)
  })
})

test('the meaning of zero points belongs to the digest, and to the key of cached layers', async () => {
  const folder = folderWith('gptq.safetensors', CONFIGS.gptq)
  const first = readCheckpoint(folder.path)
  const before = await greedyAnswer(first, PROMPT, 'int8')
  folder.write('config.json', configWith({ ...CONFIGS.gptq, checkpoint_format: 'gptq_v2' }))
  const changed = readCheckpoint(folder.path)
  expect(changed.digest).not.toBe(first.digest)
  expect(await greedyAnswer(changed, PROMPT, 'int8')).not.toEqual(before)
})

describe('the engine refuses', () => {
  const refused = async (change: (layer: TensorEntry) => TensorEntry, message: RegExp): Promise<void> => {
    const checkpoint = checkpointWith('gptq_v2.safetensors', CONFIGS.gptq_v2)
    const tensors = checkpoint.weights.tensors.map((entry) => (entry.quantised ? change(entry) : entry))
    const weights = { ...checkpoint.weights, tensors }
    const config = toEngineConfig({ ...checkpoint, weights }, { device: 'cpu', threads: 1, numBlocks: 64 })
    await expect(openEngine(config, () => {})).rejects.toThrow(message)
  }

  test('scales of another group size', () =>
    refused((entry) => {
      const { quantised } = entry
      return quantised ? { ...entry, quantised: { ...quantised, blockInputs: 4 } } : entry
    }, /scales: has \d+ elements, its layer needs \d+/))

  test('codes without their scales', () =>
    refused(({ quantised: _, ...entry }) => entry, /_proj\.weight: is stored as codes without scales/))
})
