import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { type Checkpoint, readCheckpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import { withDefaultDType } from '../../gpu-node/default-dtype.ts'
import type { DType } from '../../gpu-node/engine/engine-config.ts'
import type { MemoryPlan } from '../../gpu-node/engine/memory-plan.ts'
import { dtypeNote, type EngineOptions, storageNote, toEngineConfig } from '../../gpu-node/engine-options.ts'
import { StartupError } from '../../gpu-node/startup-error.ts'
import {
  type HeaderEntry,
  type Json,
  safetensors,
  type TinyFolder,
  tinyCheckpoint,
  tinyConfig,
  tinyTensors,
} from '../support/tiny-checkpoint.ts'

const FP8: Json = { quant_method: 'fp8', weight_block_size: [4, 8] }
const GPTQ: Json = { quant_method: 'gptq', bits: 4, group_size: 8 }
const AWQ: Json = { quant_method: 'awq', bits: 4, group_size: 8 }
const COMPRESSED: Json = {
  quant_method: 'compressed-tensors',
  format: 'float-quantized',
  config_groups: { group_0: { weights: { num_bits: 8, type: 'float', strategy: 'tensor' } } },
}
const Q = 'model.layers.0.self_attn.q_proj'
const DOWN = 'model.layers.0.mlp.down_proj'

/** Name → dtype, shape. */
type Tensors = Map<string, [dtype: string, shape: number[]]>
const BYTES: Record<string, number> = { F32: 4, I32: 4, F16: 2, BF16: 2, F8_E4M3: 1, F8_E5M2: 1 }

let folder: TinyFolder
beforeEach(() => {
  folder = tinyCheckpoint()
})
afterEach(() => folder.remove())

/** The tiny model with layers q [8, 8] and down [8, 16] replaced. */
function tensorsWith(replaced: Tensors): Tensors {
  const tensors: Tensors = new Map([...tinyTensors()].map(([name, shape]) => [name, ['F32', shape]]))
  for (const layer of [Q, DOWN]) tensors.delete(`${layer}.weight`)
  return new Map([...tensors, ...replaced])
}

function fp8Tensors(): Tensors {
  return tensorsWith(
    new Map<string, [string, number[]]>([
      [`${Q}.weight`, ['F8_E4M3', [8, 8]]],
      [`${Q}.weight_scale_inv`, ['BF16', [2, 1]]],
      [`${DOWN}.weight`, ['F8_E4M3', [8, 16]]],
      [`${DOWN}.weight_scale_inv`, ['F32', [2, 2]]],
    ]),
  )
}

function gptqTensors(): Tensors {
  return tensorsWith(
    new Map<string, [string, number[]]>([
      [`${Q}.qweight`, ['I32', [1, 8]]],
      [`${Q}.qzeros`, ['I32', [1, 1]]],
      [`${Q}.scales`, ['F16', [1, 8]]],
      [`${Q}.g_idx`, ['I32', [8]]],
      [`${DOWN}.qweight`, ['I32', [2, 8]]],
      [`${DOWN}.qzeros`, ['I32', [2, 1]]],
      [`${DOWN}.scales`, ['F16', [2, 8]]],
    ]),
  )
}

function awqTensors(): Tensors {
  return new Map([
    ...[...gptqTensors()].filter(([name]) => !name.endsWith('g_idx')),
    [`${Q}.qweight`, ['I32', [8, 1]]],
    [`${DOWN}.qweight`, ['I32', [16, 1]]],
  ])
}

/** A model that has no plain layer. Its sizes are less than a group. */
function allAwq(scales = 'F16'): Tensors {
  const tensors: Tensors = new Map()
  for (const [name, shape] of tinyTensors()) {
    const stem = name.replace(/weight$/, '')
    const [, inputs = 0] = shape
    // With TWO_KV_HEADS, k and v have 8 outputs, a whole word.
    const outputs = Math.max(8, shape[0] ?? 0)
    if (!name.endsWith('_proj.weight')) tensors.set(name, ['BF16', shape])
    else
      tensors
        .set(`${stem}qweight`, ['I32', [inputs, outputs / 8]])
        .set(`${stem}qzeros`, ['I32', [1, outputs / 8]])
        .set(`${stem}scales`, [scales, [1, outputs]])
  }
  return tensors
}
const TWO_KV_HEADS: Json = { num_key_value_heads: 2 }
const AWQ_128: Json = { ...AWQ, group_size: 128 }

function read(quantization: unknown, tensors: Tensors, config: Json = {}): Checkpoint {
  let offset = 0
  const header: Record<string, HeaderEntry> = {}
  for (const [name, [dtype, shape]] of tensors) {
    const bytes = shape.reduce((product, size) => product * size, BYTES[dtype] ?? 0)
    header[name] = { dtype, shape, data_offsets: [offset, offset + bytes] }
    offset += bytes
  }
  folder.write('config.json', { ...tinyConfig(), ...config, quantization_config: quantization })
  folder.write('model.safetensors', safetensors(header))
  return readCheckpoint(folder.path)
}

function refusal(quantization: unknown, tensors: Tensors): StartupError {
  try {
    read(quantization, tensors)
  } catch (error) {
    if (error instanceof StartupError) return error
    throw error
  }
  throw new Error('accepted')
}

function entry(checkpoint: Checkpoint, name: string) {
  return checkpoint.weights.tensors.find((tensor) => tensor.name === name)
}

describe('layers of codes', () => {
  test('FP8: scales of a tensor, of outputs, of blocks', () => {
    const blocks = read(FP8, fp8Tensors())
    expect(entry(blocks, `${DOWN}.weight`)).toMatchObject({
      dtype: 'F8_E4M3',
      shape: [8, 16],
      quantised: { blockOutputs: 4, blockInputs: 8, scales: `${DOWN}.weight_scale_inv` },
    })
    expect(entry(blocks, `${DOWN}.weight_scale_inv`)).toMatchObject({ dtype: 'F32', shape: [2, 2] })
    for (const { quantization, shape, block } of [
      { quantization: COMPRESSED, shape: [], block: [8, 16] },
      { quantization: COMPRESSED, shape: [1], block: [8, 16] },
      { quantization: COMPRESSED, shape: [8, 1], block: [1, 16] },
      { quantization: { quant_method: 'fbgemm_fp8' }, shape: [8, 1], block: [1, 16] },
      { quantization: { quant_method: 'fp8', weight_block_size: null }, shape: [8], block: [1, 16] },
      // transformers' default: blocks of 128.
      { quantization: { quant_method: 'fp8' }, shape: [1, 1], block: [128, 128] },
    ]) {
      const tensors = fp8Tensors()
      for (const name of [`${Q}.weight_scale_inv`, `${DOWN}.weight_scale_inv`]) tensors.delete(name)
      tensors.set(`${Q}.weight_scale`, ['F32', [1]]).set(`${DOWN}.weight_scale`, ['F32', shape])
      // Activations are not quantised here.
      tensors.set(`${Q}.input_scale`, ['F32', []]).set('model.layers.0.self_attn.k_scale', ['F32', [1]])
      const checkpoint = read(quantization, tensors)
      const [blockOutputs, blockInputs] = block
      expect(entry(checkpoint, `${DOWN}.weight`)?.quantised).toMatchObject({ blockOutputs, blockInputs })
      expect(entry(checkpoint, `${Q}.input_scale`)).toBeUndefined()
    }
  })

  test('GPTQ and AWQ: one entry per layer under the name of its weight, and its parts', () => {
    const gptq = read(GPTQ, gptqTensors())
    const [q, down] = [`${Q}.weight`, `${DOWN}.weight`].map((name) => entry(gptq, name))
    expect(q).toMatchObject({
      dtype: 'GPTQ_4',
      shape: [8, 8],
      quantised: { groups: `${Q}.g_idx`, zeroOffset: 1 },
    })
    expect(down).toMatchObject({ dtype: 'GPTQ_4', shape: [8, 16], quantised: { blockInputs: 8 } })
    expect(down?.quantised).not.toHaveProperty('groups')
    expect(entry(gptq, `${Q}.g_idx`)).toMatchObject({ dtype: 'I32', shape: [8] })
    const second = read({ ...GPTQ, checkpoint_format: 'gptq_v2' }, gptqTensors())
    expect(entry(second, `${Q}.weight`)?.quantised?.zeroOffset).toBe(0)
    expect(second.digest).not.toBe(gptq.digest)
    const awq = read({ ...AWQ, modules_to_not_convert: ['up_proj'] }, awqTensors())
    expect(entry(awq, `${DOWN}.weight`)).toMatchObject({
      dtype: 'AWQ_4',
      shape: [8, 16],
      quantised: { blockInputs: 8, scales: `${DOWN}.scales`, zeros: `${DOWN}.qzeros`, zeroOffset: 0 },
    })
  })

  test('without --dtype they are computed in bf16', () => {
    const tensors = new Map(
      [...gptqTensors()].map(
        ([name, [dtype, shape]]) => [name, [dtype === 'F32' ? 'BF16' : dtype, shape]] as const,
      ),
    )
    const checkpoint = read(GPTQ, tensors as Tensors)
    expect(toEngineConfig(checkpoint, {}).dtype).toBe('bf16')
  })

  test('what becomes of their weights is said', () => {
    const of = (quantization: unknown, tensors: Tensors, dtype: DType) =>
      storageNote(read(quantization, tensors).weights, dtype)
    expect(of(AWQ, awqTensors(), 'bf16')).toMatch(/^layers are stored in AWQ \(4 bits\): .* widened to bf16$/)
    expect(of(GPTQ, gptqTensors(), 'int4')).toMatch(/GPTQ \(4 bits\): .* rounded again, to int4$/)
    expect(of(FP8, fp8Tensors(), 'fp8')).toMatch(/FP8: .* rounded again, to fp8$/)
    const perTensor = fp8Tensors()
    for (const layer of [Q, DOWN]) {
      perTensor.delete(`${layer}.weight_scale_inv`)
      perTensor.set(`${layer}.weight_scale`, ['F32', [1]])
    }
    expect(of(COMPRESSED, perTensor, 'fp8')).toBeUndefined()
    expect(of(COMPRESSED, perTensor, 'bf16')).toMatch('FP8')
  })

  test('groups of 128 are kept in int4-g128, which is the default on CUDA devices', () => {
    const checkpoint = read(AWQ_128, allAwq(), TWO_KV_HEADS)
    const { weights } = checkpoint
    const dtype = (options: EngineOptions, of = checkpoint) => toEngineConfig(of, options).dtype
    expect(dtype({ device: 'cuda' })).toBe('int4-g128')
    expect(dtype({ devices: [0, 1] })).toBe('int4-g128')
    expect(dtype({ device: 'cpu' })).toBe('bf16')
    expect(dtype({ device: 'cuda', dtype: 'bf16' })).toBe('bf16')
    expect(storageNote(weights, 'int4-g128')).toBeUndefined()
    expect(storageNote(weights, 'bf16')).toMatch(/widened to bf16; --dtype int4-g128 keeps them/)
    // Scales that f16 may not hold, and layers that would be rounded: plain ones, and those of an adapter.
    const other = read(AWQ_128, allAwq('BF16'), TWO_KV_HEADS)
    expect(dtype({ device: 'cuda' }, other)).toBe('bf16')
    expect(storageNote(other.weights, 'int4-g128')).toMatch(/rounded again, to int4-g128$/)
    const onePlain: Tensors = allAwq().set(`${Q}.weight`, ['BF16', [8, 8]])
    for (const part of ['qweight', 'qzeros', 'scales']) onePlain.delete(`${Q}.${part}`)
    expect(dtype({ device: 'cuda' }, read(AWQ_128, onePlain, TWO_KV_HEADS))).toBe('bf16')
    const lora = { scale: 1, transposed: false }
    const tensors = weights.tensors.map((each) => (each.name === `${Q}.weight` ? { ...each, lora } : each))
    const adapted = { ...checkpoint, weights: { ...weights, tensors } }
    expect(dtype({ device: 'cuda' }, adapted)).toBe('bf16')
    expect(dtypeNote(adapted, { device: 'cuda' })).toMatch(/int4-g128 weights .* computing in bf16/)
    expect(dtypeNote(adapted, { device: 'cpu' })).toBeUndefined()
    expect(storageNote(adapted.weights, 'bf16')).toMatch(/widened to bf16$/)
  })

  test('where the device is chosen automatically, so is the default', () => {
    const checkpoint = read(AWQ_128, allAwq(), TWO_KV_HEADS)
    const on = (device: 'cpu' | 'cuda') => vi.fn(() => ({ device }) as MemoryPlan)
    expect(withDefaultDType(checkpoint, {}, on('cuda'))).toEqual({ dtype: 'int4-g128' })
    expect(withDefaultDType(checkpoint, { device: 'auto' }, on('cpu'))).toEqual({ device: 'auto' })
    const broken = () => {
      throw new StartupError('engine_missing', 'no engine')
    }
    expect(withDefaultDType(checkpoint, {}, broken)).toEqual({})
    // Nobody asks for the device where it decides nothing.
    const never = on('cuda')
    for (const options of [{ device: 'cpu' }, { device: 'cuda' }, { dtype: 'f32' }] as const) {
      expect(withDefaultDType(checkpoint, options, never)).toEqual(options)
    }
    expect(withDefaultDType(read(FP8, fp8Tensors()), {}, never)).toEqual({})
    expect(never).not.toHaveBeenCalled()
  })

  test('groups that are named in the order of the inputs are those of neighbours', () => {
    const tensors = gptqTensors().set(`${DOWN}.g_idx`, ['I32', [16]])
    const { weights } = read(GPTQ, tensors)
    const path = weights.files[0] ?? ''
    const { offset = 0 } = weights.tensors.find(({ name }) => name === `${DOWN}.g_idx`) ?? {}
    const quantisedWith = (groups: number[]) => {
      const file = readFileSync(path)
      groups.forEach((group, input) => {
        file.writeInt32LE(group, offset + 4 * input)
      })
      writeFileSync(path, file)
      return entry(readCheckpoint(folder.path), `${DOWN}.weight`)?.quantised
    }
    const inOrder = Array.from({ length: 16 }, (_, input) => Math.floor(input / 8))
    expect(quantisedWith(inOrder)).not.toHaveProperty('groups')
    expect(quantisedWith(inOrder.with(15, 0))).toMatchObject({ groups: `${DOWN}.g_idx` })
    expect(quantisedWith(inOrder.toReversed())).toMatchObject({ groups: `${DOWN}.g_idx` })
  })

  test('a bias of zeros that the model does not have is left out, any other refused', () => {
    const tensors = gptqTensors()
    // The helper writes a zero first, then others.
    const withBias: Tensors = new Map([[`${Q}.bias`, ['F16', [2]]], ...tensors])
    expect(entry(read(GPTQ, withBias), `${Q}.bias`)).toBeUndefined()
    expect(refusal(GPTQ, new Map([[`${Q}.bias`, ['F16', [8]]], ...tensors])).message).toMatch(/q_proj\.bias/)
    expect(
      refusal(GPTQ, new Map([['model.layers.0.mlp.up_proj.bias', ['F16', [2]]], ...tensors])).message,
    ).toMatch(/up_proj\.bias/)
  })
})

describe('parts that do not fit are refused by name', () => {
  const cases: [name: string, tensor: string, change: [string, number[]] | undefined, message: RegExp][] = [
    ['FP8 without scales', `${Q}.weight_scale_inv`, undefined, /q_proj\.weight: .*weight_scale is missing/],
    [
      'FP8 scales of other blocks',
      `${Q}.weight_scale_inv`,
      ['F32', [3, 1]],
      /scale_inv: shape is \[3, 1\], the layer asks for \[2, 1\] or \[\]/,
    ],
    [
      'FP8 scales of another dtype',
      `${Q}.weight_scale_inv`,
      ['I32', [2, 1]],
      /scale_inv: dtype I32 is not served here/,
    ],
    ['e5m2', `${Q}.weight`, ['F8_E5M2', [8, 8]], /q_proj\.weight: dtype F8_E5M2 is not served/],
    [
      'an FP8 embedding',
      'model.embed_tokens.weight',
      ['F8_E4M3', [260, 8]],
      /embed_tokens\.weight: only linear layers/,
    ],
    ['an FP8 layer of another shape', `${Q}.weight`, ['F8_E4M3', [8, 4]], /q_proj\.weight/],
    ['an FP8 layer that is no matrix', `${Q}.weight`, ['F8_E4M3', [64]], /a layer is a matrix, not \[64\]/],
    ['GPTQ without zero points', `${Q}.qzeros`, undefined, /q_proj\.weight: .*q_proj\.qzeros is missing/],
    ['GPTQ without scales', `${DOWN}.scales`, undefined, /down_proj\.scales is missing/],
    [
      'GPTQ scales of other groups',
      `${DOWN}.scales`,
      ['F16', [4, 8]],
      /down_proj\.scales: shape is \[4, 8\], the layer asks for \[2, 8\]/,
    ],
    ['GPTQ zero points of other groups', `${DOWN}.qzeros`, ['I32', [1, 2]], /down_proj\.qzeros: shape/],
    ['GPTQ groups of other inputs', `${Q}.g_idx`, ['I32', [9]], /q_proj\.g_idx: shape is \[9\]/],
    ['GPTQ groups in floats', `${Q}.g_idx`, ['F32', [8]], /q_proj\.g_idx: dtype F32/],
    [
      'GPTQ codes in floats',
      `${Q}.qweight`,
      ['F32', [1, 8]],
      /q_proj\.qweight: codes are stored as I32, not F32/,
    ],
    ['GPTQ codes of another shape', `${Q}.qweight`, ['I32', [2, 8]], /q_proj/],
    ['GPTQ without codes', `${Q}.qweight`, undefined, /q_proj/],
    ['GPTQ of no inputs', `${Q}.qweight`, ['I32', [0, 8]], /a layer is a matrix, not \[0, 8\]/],
    [
      'a part of no layer',
      'model.layers.0.self_attn.k_proj.qzeros',
      ['I32', [1, 1]],
      /k_proj\.qzeros: dtype I32 is not served/,
    ],
  ]
  test.each(cases)('%s', (name, tensor, change, message) => {
    const fp8 = name.includes('FP8') || name === 'e5m2'
    const tensors = fp8 ? fp8Tensors() : gptqTensors()
    if (change) tensors.set(tensor, change)
    else tensors.delete(tensor)
    const { message: line, code } = refusal(fp8 ? FP8 : GPTQ, tensors)
    expect(line).toMatch(message)
    expect(line).toContain('model.safetensors')
    expect(line).not.toContain('\n')
    expect(code).toMatch(/broken_checkpoint|unsupported_checkpoint/)
  })

  test('codes without quantization_config', () => {
    expect(refusal(undefined, fp8Tensors()).message).toMatch(/F8_E4M3 is not served/)
    expect(refusal(undefined, gptqTensors()).message).toMatch(/I32 is not served/)
  })
})

describe('formats that are not served are refused by name', () => {
  const groups = (weights: Json) => ({ ...COMPRESSED, config_groups: { group_0: { weights } } })
  const float = { num_bits: 8, type: 'float' }
  const cases: [quantization: unknown, message: RegExp][] = [
    [{ quant_method: 'bitsandbytes' }, /quant_method: bitsandbytes is not served/],
    [{ quant_method: 'hqq' }, /hqq is not served/],
    [{ bits: 4 }, /quant_method/],
    ['fp8', /quantization_config: /],
    [{ ...FP8, fmt: 'e5m2' }, /fmt: e5m2/],
    [{ ...FP8, weight_block_size: [0, 128] }, /weight_block_size\.0/],
    [{ ...FP8, weight_block_size: [128] }, /weight_block_size/],
    [{ ...COMPRESSED, format: 'pack-quantized' }, /format: pack-quantized is not served/],
    [{ ...COMPRESSED, format: 'int-quantized' }, /format: int-quantized/],
    [{ ...COMPRESSED, sparsity_config: { format: 'sparse-24-bitmask' } }, /sparsity_config\.format/],
    [{ ...COMPRESSED, transform_config: { config_groups: { u: {} } } }, /transform_config/],
    [groups({ ...float, type: 'int' }), /config_groups\.group_0\.weights\.type: int/],
    [groups({ ...float, num_bits: 4 }), /num_bits: 4/],
    [groups({ ...float, symmetric: false }), /symmetric: false/],
    [groups({ ...float, strategy: 'group' }), /strategy: group/],
    [groups({ ...float, strategy: 'block' }), /block_structure: is missing/],
    [{ ...AWQ, bits: 3 }, /bits: 3 is not served/],
    [{ ...AWQ, version: 'gemv' }, /version: gemv is not served/],
    [{ ...AWQ, zero_point: false }, /zero_point: false/],
    [{ ...AWQ, group_size: 0 }, /group_size/],
    [{ ...GPTQ, bits: 3 }, /bits: 3 is not served/],
    [{ ...GPTQ, group_size: -2 }, /group_size/],
    [{ ...GPTQ, checkpoint_format: 'marlin' }, /checkpoint_format: marlin/],
    [{ ...GPTQ, is_marlin_format: true }, /is_marlin_format/],
    [{ ...GPTQ, pack_dtype: 'int16' }, /pack_dtype: int16/],
    [{ ...GPTQ, dynamic: { '-:lm_head': {}, '.*down.*': { bits: 8 } } }, /dynamic: .*down/],
    [{ ...GPTQ, adapter: { rank: 8 } }, /adapter/],
  ]
  test.each(cases)('%j', (quantization, message) => {
    const { message: line } = refusal(quantization, gptqTensors())
    expect(line).toMatch(message)
    expect(line).toContain('config.json: quantization_config')
    expect(line).not.toContain('\n')
  })
})

test('no mutation of a header does anything but be accepted or refused with a sentence', () => {
  read(GPTQ, gptqTensors())
  const whole = readFileSync(join(folder.path, 'model.safetensors'))
  const header = Number(whole.readBigUInt64LE())
  let state = 1
  const random = (below: number) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
  let refused = 0
  for (let run = 0; run < 1000; run++) {
    const changed = Buffer.from(whole)
    // Digits and letters: most other bytes break the JSON.
    for (let change = 0; change <= random(3); change++) {
      changed[8 + random(header)] = random(2) === 0 ? 48 + random(10) : 95 + random(28)
    }
    folder.write('model.safetensors', changed)
    try {
      readCheckpoint(folder.path)
    } catch (error) {
      expect(error).toBeInstanceOf(StartupError)
      refused++
    }
  }
  expect(refused).toBeGreaterThan(500)
})
