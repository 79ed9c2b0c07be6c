import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, describe, expect, test, vi } from 'vitest'
import { showEstimate } from '../../../cli/train/estimate/command.ts'
import { estimate } from '../../../cli/train/estimate/estimate.ts'
import { estimateMemory, type TrainedAs } from '../../../cli/train/estimate/memory.ts'
import { countLora, countParameters, shapeOf } from '../../../cli/train/estimate/parameters.ts'
import { estimateReport } from '../../../cli/train/estimate/report.ts'
import { flopsPerToken } from '../../../cli/train/estimate/time.ts'

const root = mkdtempSync(join(tmpdir(), 'apar-estimate-'))
afterAll(() => rmSync(root, { recursive: true }))
afterEach(() => vi.unstubAllEnvs())

const LLAMA = { architectures: ['LlamaForCausalLM'], max_position_embeddings: 2048 }
const VICUNA_7B = {
  ...LLAMA,
  ...{ vocab_size: 32000, hidden_size: 4096, intermediate_size: 11008, num_hidden_layers: 32 },
  num_attention_heads: 32,
}
const SMOLLM2 = {
  ...LLAMA,
  ...{ vocab_size: 49152, hidden_size: 576, intermediate_size: 1536, num_hidden_layers: 30 },
  ...{ num_attention_heads: 9, num_key_value_heads: 3, tie_word_embeddings: true },
}
const LLAMA_8B = {
  ...VICUNA_7B,
  ...{ vocab_size: 128256, intermediate_size: 14336, num_key_value_heads: 8 },
}
const QWEN3_4B = {
  ...LLAMA,
  ...{ architectures: ['Qwen3ForCausalLM'], vocab_size: 151936, hidden_size: 2560, intermediate_size: 9728 },
  ...{ num_hidden_layers: 36, num_attention_heads: 32, num_key_value_heads: 8, head_dim: 128 },
  tie_word_embeddings: true,
}
/** With biases of q, k and v. */
const QWEN2 = { ...SMOLLM2, architectures: ['Qwen2ForCausalLM'] }

function shape(config: object) {
  writeFileSync(join(root, 'config.json'), JSON.stringify(config))
  return shapeOf(root)
}

// The sums of the published checkpoints' tensors.
test.each([
  ['Vicuna 7B', VICUNA_7B, 6_738_415_616],
  ['SmolLM2 135M', SMOLLM2, 134_515_008],
  ['Llama 3.1 8B', LLAMA_8B, 8_030_261_248],
  ['Qwen3 4B', QWEN3_4B, 4_022_468_096],
  ['a Qwen2', QWEN2, 134_515_008 + 30 * (576 + 2 * 192)],
])('%s has as many parameters as its checkpoint', (_, config, parameters) => {
  expect(countParameters(shape(config)).total).toBe(parameters)
})

test('a config.json is enough, by its own path too', () => {
  shape(SMOLLM2)
  expect(shapeOf(join(root, 'config.json')).hiddenSize).toBe(576)
})

test('a model that is not here: its config.json is all that an estimate needs', async () => {
  vi.stubEnv('HF_HUB_CACHE', root)
  await expect(showEstimate({ model: 'some/model' })).rejects.toMatchObject({
    code: 'model_not_pulled',
    message: expect.stringMatching(/apar model pull some\/model --include config\.json$/),
  })
  await expect(showEstimate({ model: 'nothing' })).rejects.toMatchObject({ code: 'unknown_model' })
})

test('LoRA of rank 16 on SmolLM2 has 4.9 M parameters', () => {
  const perLayer = 16 * (576 + 576 + 2 * (576 + 192) + 576 + 576 + 3 * (576 + 1536))
  expect(countLora(shape(SMOLLM2), 16)).toBe(30 * perLayer + 2 * 576)
  expect(30 * perLayer).toBe(4_884_480)
})

describe('memory', () => {
  const how: TrainedAs = {
    ...{
      device: 'cuda',
      lora: undefined,
      layout: 'one',
      processes: 1,
      packTokens: 2048,
      checkpointActivations: false,
      distills: false,
      valueBytes: 2,
    },
  }
  const bytes = (changes: Partial<TrainedAs>) => estimateMemory(shape(VICUNA_7B), { ...how, ...changes })
  const P = 6_738_415_616

  test('of all weights: f32, with a bf16 copy, gradients and two moments', () => {
    expect(bytes({})).toMatchObject({ weights: 6 * P, gradients: 4 * P, optimizer: 8 * P })
  })

  test('of LoRA: bf16 weights, and the rest of the adapter only', () => {
    const adapter = countLora(shape(VICUNA_7B), 16)
    expect(bytes({ lora: 16 })).toMatchObject({
      weights: 2 * P + 4 * adapter,
      gradients: 4 * adapter,
      optimizer: 8 * adapter,
    })
  })

  test('of FSDP2 is divided by the processes, but for the layers at work', () => {
    const layer = 4 * 4096 * 4096 + 3 * 4096 * 11008 + 2 * 4096
    const whole = Math.max(2 * layer, 2 * 32000 * 4096)
    expect(bytes({ layout: 'fsdp', processes: 8 })).toMatchObject({
      weights: (4 * P) / 8 + 2 * whole,
      gradients: (4 * P) / 8 + 2 * whole,
      optimizer: P,
    })
  })

  test('of activations grows with the tokens, and checkpointing leaves a stream for each layer', () => {
    const { activations } = bytes({})
    expect(bytes({ packTokens: 4096 }).activations).toBe(2 * activations)
    const again = bytes({ checkpointActivations: true }).activations
    expect(again).toBeGreaterThan(2048 * 32 * 4096 * 4)
    expect(again).toBeLessThan(activations / 3)
    expect(bytes({ distills: true }).activations).toBe(activations + 2048 * 32000 * (2 + 3 * 4))
  })
})

test('a token takes 6 operations a weight, 4 where the weights are frozen, and 2 more where it is done again or the base does it, too', () => {
  const work = { lora: undefined, checkpointActivations: false, distills: false, meanContext: 0 }
  const products = 6_738_415_616 - 32000 * 4096 - 65 * 4096
  expect(flopsPerToken(shape(VICUNA_7B), work)).toBe(6 * products)
  const again = flopsPerToken(shape(VICUNA_7B), { ...work, checkpointActivations: true })
  expect(again).toBe(8 * products - 2 * 32000 * 4096)
  const lora = flopsPerToken(shape(VICUNA_7B), { ...work, lora: 8 })
  expect(lora).toBe(4 * products + 4 * countLora(shape(VICUNA_7B), 8))
  const taught = flopsPerToken(shape(VICUNA_7B), { ...work, lora: 8, distills: true })
  expect(taught).toBe(lora + 2 * products)
})

test('the report has a line for each way to train', () => {
  const found = estimate({
    ...{
      shape: shape(VICUNA_7B),
      lora: 16,
      distills: false,
      packTokens: { cpu: 1024, cuda: 16384 },
      contextTokens: 2048,
    },
    ...{ runTokens: 100e6, gpus: 8, gpuMemory: 80e9, gpuRate: 400e12, cpu: undefined, cpuMemory: 64e9 },
    valueBytes: { cpu: 2, cuda: 2 } as const,
  })
  const ways = found.rows.map(({ trains, device, layout, processes }) => [trains, device, layout, processes])
  expect(ways).toEqual(
    ['all weights', 'LoRA'].flatMap((trains) => [
      [trains, 'cpu', 'one', 1],
      [trains, 'cuda', 'one', 1],
      [trains, 'cuda', 'ddp', 8],
      [trains, 'cuda', 'fsdp', 8],
    ]),
  )
  const fits = found.rows.map((row) => row.checkpointed.fits)
  expect(fits).toEqual([false, false, false, true, true, true, true, true])
  const text = estimateReport(found)
  expect(text).toMatch(
    /^6\.7 B parameters; LoRA of rank 16 trains 40\.0 M of them; 100 M tokens in the run\n/,
  )
  expect(text).toMatch(/all weights +8 GPUs, FSDP2 +/)
  expect(Math.max(...text.split('\n').map((line) => line.length))).toBeLessThan(170)
})
