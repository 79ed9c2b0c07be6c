import type { QuantisedLayer, TensorEntry } from '../../engine/engine-config.ts'
import { type LocatedTensor, PLAIN } from '../plain-tensor.ts'
import { unsupported } from '../refusals.ts'
import type { Quantisation } from './quantisation.ts'
import type { StoredParts } from './stored-parts.ts'

/** Other tensors, embeddings and norms, are not read as codes. */
const LINEAR = /(_proj|^lm_head)\.weight$/
const CODES = { fp8: '.weight', awq: '.qweight', gptq: '.qweight' } as const

export function isCodes({ name, dtype }: LocatedTensor, { method }: Quantisation): boolean {
  return name.endsWith(CODES[method]) && (method !== 'fp8' || dtype === 'F8_E4M3')
}

/**
 * The entries of a layer that is stored as codes: first its matrix [outputs, inputs], which names its parts, then these.
 * @throws StartupError that names file and tensor when a part is missing or does not fit.
 */
export function quantisedLayer(
  parts: StoredParts,
  codes: LocatedTensor,
  quantisation: Quantisation,
): TensorEntry[] {
  const name = codes.name.replace(/\.qweight$/, '.weight')
  if (!LINEAR.test(name)) {
    const why = 'only linear layers may be quantised'
    throw unsupported(`${parts.where(codes)}: ${why}`)
  }
  const [rows, columns] = codes.shape
  if (rows === undefined || columns === undefined || codes.shape.length !== 2 || rows * columns === 0) {
    throw parts.broken(codes, `a layer is a matrix, not [${codes.shape.join(', ')}]`)
  }
  if (quantisation.method === 'fp8') return fp8Layer(parts, codes, rows, columns, quantisation.block)
  if (codes.dtype !== 'I32') throw parts.broken(codes, `codes are stored as I32, not ${codes.dtype}`)
  return packedLayer(parts, { ...codes, name }, rows, columns, quantisation)
}

function fp8Layer(
  parts: StoredParts,
  codes: LocatedTensor,
  outputs: number,
  inputs: number,
  block: readonly [number, number] | undefined,
): TensorEntry[] {
  // Both names are in use, for the same: what a code is multiplied by.
  const inverse = `${codes.name}_scale_inv`
  const name = parts.has(inverse) ? inverse : `${codes.name}_scale`
  const layouts: { shape: number[]; block: readonly [number, number] }[] = [
    ...[[], [1], [1, 1]].map((shape) => ({ shape, block: [outputs, inputs] as const })),
    ...[[outputs], [outputs, 1]].map((shape) => ({ shape, block: [1, inputs] as const })),
  ]
  if (block) layouts.unshift({ shape: [blocks(outputs, block[0]), blocks(inputs, block[1])], block })
  const scales = parts.take(codes, name, PLAIN, ...layouts.map(({ shape }) => shape))
  const layout = layouts.find(({ shape }) => (shape.join() || '1') === scales.shape.join())
  const [blockOutputs, blockInputs] = layout?.block ?? [outputs, inputs]
  const quantised: QuantisedLayer = { blockOutputs, blockInputs, scales: name, zeroOffset: 0 }
  return [{ ...codes, dtype: 'F8_E4M3', quantised }, scales]
}

/** Words of `codes` hold neighbouring outputs in AWQ, neighbouring inputs in GPTQ; those of zero points hold outputs. */
function packedLayer(
  parts: StoredParts,
  codes: LocatedTensor,
  rows: number,
  columns: number,
  quantisation: Exclude<Quantisation, { method: 'fp8' }>,
): TensorEntry[] {
  const stem = codes.name.replace(/weight$/, '')
  const perWord = quantisation.method === 'gptq' ? 32 / quantisation.bits : 8
  const [inputs, outputs] =
    quantisation.method === 'awq' ? [rows, columns * perWord] : [rows * perWord, columns]
  const { groupSize = inputs } = quantisation
  const groups = blocks(inputs, groupSize)
  const scales = parts.take(codes, `${stem}scales`, PLAIN, [groups, outputs])
  const zeros = parts.take(codes, `${stem}qzeros`, ['I32'], [groups, outputs / perWord])
  const quantised: QuantisedLayer = {
    blockOutputs: 1,
    blockInputs: Math.min(groupSize, inputs),
    scales: scales.name,
    zeros: zeros.name,
    zeroOffset: quantisation.method === 'gptq' ? quantisation.zeroOffset : 0,
  }
  const entries = [scales, zeros]
  const order = `${stem}g_idx`
  if (quantisation.method === 'gptq' && parts.has(order)) {
    const groupOfInput = parts.take(codes, order, ['I32'], [inputs])
    // Writers of GPTQ name the groups even where neighbours form them.
    if (!parts.isInOrder(groupOfInput, quantised.blockInputs)) {
      entries.push(groupOfInput)
      quantised.groups = order
    }
  }
  const dtype = quantisation.method === 'awq' ? 'AWQ_4' : quantisation.bits === 4 ? 'GPTQ_4' : 'GPTQ_8'
  return [{ ...codes, dtype, shape: [outputs, inputs], quantised }, ...entries]
}

function blocks(size: number, block: number): number {
  return Math.ceil(size / block)
}
