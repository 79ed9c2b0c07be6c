import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { emulateCuda } from '../../bench/emulated/both.ts'
import { inspectModel } from '../../cli/models/inspect.ts'
import { readCheckpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import { withDefaultDType } from '../../gpu-node/default-dtype.ts'
import { openEngine } from '../../gpu-node/engine/binding.ts'
import { toEngineConfig } from '../../gpu-node/engine-options.ts'
import {
  type HeaderEntry,
  safetensors,
  type TinyFolder,
  tinyCheckpoint,
  tinyConfig,
  tinyTensors,
} from '../support/tiny-checkpoint.ts'

const F16_ONE_64TH = 0x2400

/** All layers of the tiny model in AWQ, each in a single group. */
function awqCheckpoint(): TinyFolder {
  const header: Record<string, HeaderEntry> = {}
  const parts: Buffer[] = []
  let offset = 0
  const add = (name: string, dtype: string, shape: number[], data: Buffer) => {
    header[name] = { dtype, shape, data_offsets: [offset, offset + data.length] }
    parts.push(data)
    offset += data.length
  }
  const filled = (bytes: number, word: (index: number) => number) => {
    const data = Buffer.alloc(bytes)
    for (let at = 0; at < bytes; at += 4) data.writeUInt32LE(word(at / 4) >>> 0, at)
    return data
  }
  for (const [name, [rows = 1, inputs = 1]] of tinyTensors()) {
    if (!name.endsWith('_proj.weight')) {
      const shape = name === 'model.embed_tokens.weight' ? [rows, inputs] : [rows]
      const ones = filled(4 * rows * inputs, (i) => 0x3f800000 | ((i % 7) << 20))
      add(name, 'F32', shape, ones)
      continue
    }
    const outputs = Math.max(8, rows)
    const stem = name.replace(/weight$/, '')
    add(
      `${stem}qweight`,
      'I32',
      [inputs, outputs / 8],
      filled((4 * inputs * outputs) / 8, (i) => i * 0x9e3779b9),
    )
    add(
      `${stem}qzeros`,
      'I32',
      [1, outputs / 8],
      filled((4 * outputs) / 8, () => 0x87654987),
    )
    add(
      `${stem}scales`,
      'F16',
      [1, outputs],
      filled(2 * outputs, () => F16_ONE_64TH * 0x10001),
    )
  }
  const folder = tinyCheckpoint()
  folder.write('config.json', {
    ...tinyConfig(),
    num_key_value_heads: 2,
    quantization_config: { quant_method: 'awq', bits: 4, group_size: 128, version: 'gemm' },
  })
  const whole = safetensors(header, 0)
  folder.write('model.safetensors', Buffer.concat([whole, ...parts]))
  return folder
}

describe('an AWQ checkpoint in groups of 128', () => {
  const folder = awqCheckpoint()
  const dtypes = async (device: 'cpu' | 'auto') => {
    const { memory } = await inspectModel(folder.path, device)
    return memory.filter(({ isDefault }) => isDefault)
  }
  afterAll(() => folder.remove())

  it('is computed in bf16 on the CPU', async () => {
    expect(await dtypes('cpu')).toMatchObject([{ dtype: 'bf16', fits: true }])
  })

  describe('where there is a CUDA device, here one that the host emulates', () => {
    beforeAll(() => emulateCuda(join(import.meta.dirname, '../..')))

    it('keeps its codes by default, in the plan and in the engine', async () => {
      expect(await dtypes('auto')).toMatchObject([
        { dtype: 'int4-g128', fits: true, plan: { device: 'cuda' } },
      ])
      expect(await dtypes('cpu')).toMatchObject([{ dtype: 'bf16' }])
      const checkpoint = readCheckpoint(folder.path)
      const options = withDefaultDType(checkpoint, { numBlocks: 64 })
      const engine = await openEngine(toEngineConfig(checkpoint, options), () => {})
      expect(engine.info).toMatchObject({ dtype: 'int4-g128', device: expect.stringMatching(/^cuda /) })
      await engine.close()
    })
  })
})
