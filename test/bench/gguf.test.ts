import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { writeRandomSafetensors } from '../../bench/engine/random-weights.ts'
import { PIECES } from '../../bench/engine/vocabulary.ts'
import { writeGguf } from '../../bench/peer/gguf.ts'
import { rotatedPairwise, writeLlamaGguf } from '../../bench/peer/llama-gguf.ts'
import { llamaTensors } from '../../gpu-node/checkpoint/llama-tensors.ts'
import { PLAIN_LLAMA, plainRope } from '../../gpu-node/checkpoint/plain-llama.ts'
import { readWeights } from '../../gpu-node/checkpoint/weights.ts'
import type { ModelShape } from '../../gpu-node/engine/engine-config.ts'
import { parseGguf } from './parse-gguf.ts'

const folder = mkdtempSync(join(tmpdir(), 'apar-gguf-'))
afterAll(() => rmSync(folder, { recursive: true }))

const SHAPE: ModelShape = {
  vocabSize: 10,
  hiddenSize: 12,
  intermediateSize: 20,
  numLayers: 2,
  numHeads: 3,
  numKvHeads: 1,
  headDim: 4,
  contextTokens: 64,
  rmsNormEps: 1e-5,
  rope: plainRope(10_000, 4),
  ...PLAIN_LLAMA,
  tieWordEmbeddings: false,
}

test('metadata and tensors are read back unchanged, each tensor at an aligned offset', () => {
  const file = join(folder, 'small.gguf')
  const metadata = { a: { u32: 7 }, b: { f32: 0.5 }, c: { string: 'é' }, d: { strings: ['x', ''] } } as const
  const bytes = Uint8Array.from({ length: 12 }, (_, i) => i)
  writeGguf(file, { ...metadata, e: { i32s: [-1, 3] }, f: { f32s: [1.5] } }, [
    { name: 'odd', shape: [2, 3], type: 'BF16', data: () => bytes },
    { name: 'wide', shape: [3], type: 'F32', data: () => bytes.toReversed() },
  ])
  const raw = readFileSync(file)
  const { version, metadata: read, tensors, dataStart } = parseGguf(raw)
  expect(version).toBe(3)
  expect(Object.fromEntries(read)).toEqual({ a: 7, b: 0.5, c: 'é', d: ['x', ''], e: [-1, 3], f: [1.5] })
  expect(tensors).toEqual([
    { name: 'odd', dimensions: [3, 2], type: 30, offset: 0 },
    { name: 'wide', dimensions: [3], type: 0, offset: 32 },
  ])
  expect([...raw.subarray(dataStart, dataStart + 12)]).toEqual([...bytes])
  expect([...raw.subarray(dataStart + 32, dataStart + 44)]).toEqual([...bytes.toReversed()])
  expect(raw.length % 32).toBe(0)
})

test('a tensor whose bytes do not fit its shape is refused', () => {
  const tensor = { name: 'short', shape: [4], type: 'F32' as const, data: () => new Uint8Array(15) }
  expect(() => writeGguf(join(folder, 'short.gguf'), {}, [tensor])).toThrow('short: 15 bytes')
})

test('a random model has every tensor once, with the same numbers in BF16 and F32', () => {
  writeRandomSafetensors(join(folder, 'model.safetensors'), SHAPE)
  const checkpoint = { shape: SHAPE, weights: readWeights(folder, SHAPE) }
  const [narrow, wide] = (['BF16', 'F32'] as const).map((type) => {
    const file = join(folder, `${type}.gguf`)
    writeLlamaGguf(file, checkpoint, type)
    const raw = readFileSync(file)
    return { raw, ...parseGguf(raw) }
  })
  expect(narrow?.tensors.map(({ name }) => name)).toEqual(wide?.tensors.map(({ name }) => name))
  expect(new Set(narrow?.tensors.map(({ name }) => name)).size).toBe(llamaTensors(SHAPE).size)
  expect(narrow?.metadata.get('tokenizer.ggml.tokens')).toHaveLength(PIECES.length)
  for (const [index, tensor] of (narrow?.tensors ?? []).entries()) {
    const twin = wide?.tensors[index]
    const count = tensor.dimensions.reduce((a, b) => a * b, 1)
    for (let i = 0; i < count; i++) {
      const narrowAt = (narrow?.dataStart ?? 0) + tensor.offset
      const wideAt = (wide?.dataStart ?? 0) + (twin?.offset ?? 0) + i * 4
      const bits = wide?.raw.readUInt32LE(wideAt) ?? 0
      if (tensor.type === 0) expect(narrow?.raw.readUInt32LE(narrowAt + i * 4)).toBe(bits)
      else expect((narrow?.raw.readUInt16LE(narrowAt + i * 2) ?? 0) * 2 ** 16).toBe(bits)
    }
  }
})

test('attention scores are unchanged by the reordering of the rows of q and k', () => {
  const heads = 2
  const headDim = 6
  const random = (seed: number) =>
    Float32Array.from({ length: heads * headDim }, (_, i) => Math.sin(i * seed + 1))
  const reordered = (name: string, column: Float32Array) => {
    const tensor = { name: `model.layers.0.self_attn.${name}.weight`, shape: [heads * headDim, 1] }
    const bytes = new Uint8Array(column.slice().buffer)
    return new Float32Array(rotatedPairwise(tensor, { headDim }, bytes).slice().buffer)
  }
  const [q, k] = [random(1.3), random(2.7)]
  for (let head = 0; head < heads; head++) {
    const of = (row: Float32Array) => [...row.subarray(head * headDim, (head + 1) * headDim)]
    const halves = dot(rotate(of(q), 11, 'halves'), rotate(of(k), 4, 'halves'))
    const pairs = dot(
      rotate(of(reordered('q_proj', q)), 11, 'neighbours'),
      rotate(of(reordered('k_proj', k)), 4, 'neighbours'),
    )
    expect(pairs).toBeCloseTo(halves, 5)
  }
  const values = new Uint8Array(random(1).buffer)
  expect(rotatedPairwise({ name: 'self_attn.v_proj.weight', shape: [12, 1] }, { headDim }, values)).toBe(
    values,
  )
})

/** Rotary embedding of one head at a position. The two conventions differ in the elements that form a pair. */
function rotate(head: readonly number[], position: number, pairs: 'halves' | 'neighbours'): number[] {
  const half = head.length / 2
  const out = [...head]
  for (let i = 0; i < half; i++) {
    const [a, b] = pairs === 'halves' ? [i, i + half] : [2 * i, 2 * i + 1]
    const angle = position * 10_000 ** (-i / half)
    const [x = 0, y = 0] = [head[a], head[b]]
    out[a] = x * Math.cos(angle) - y * Math.sin(angle)
    out[b] = x * Math.sin(angle) + y * Math.cos(angle)
  }
  return out
}

function dot(a: readonly number[], b: readonly number[]): number {
  return a.reduce((sum, value, i) => sum + value * (b[i] ?? 0), 0)
}
