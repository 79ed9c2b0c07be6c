import type { ModelShape, TensorEntry } from '../../engine/engine-config.ts'
import { llamaTensors } from '../llama-tensors.ts'
import { type LocatedTensor, PLAIN, plainEntry } from '../plain-tensor.ts'
import { withRegularFile } from '../regular-file.ts'
import { tensorBytes } from '../tensor-blocks.ts'
import { isCodes, quantisedLayer } from './layers.ts'
import type { Quantisation } from './quantisation.ts'
import { StoredParts } from './stored-parts.ts'

/** Scales of quantised activations and caches, which are not quantised here. */
const OF_ACTIVATIONS = /\.(input_scale|input_scale_ub|activation_scale|k_scale|v_scale)$/

const BUFFER_BYTES = 64 * 1024

/**
 * The weight table's entries for a folder's tensors. A layer that is stored as codes has an entry under the name of its
 * weight, whatever its codes are called; its scales and zero points are entries too, under their own names.
 * @throws StartupError that names file and tensor.
 */
export function weightEntries(
  files: readonly string[],
  tensors: readonly LocatedTensor[],
  quantisation: Quantisation | undefined,
  shape: ModelShape,
): TensorEntry[] {
  if (!quantisation) return tensors.map((tensor) => plainEntry(files, tensor))
  const parts = new StoredParts(files, tensors)
  const isLayer = (tensor: LocatedTensor) => isCodes(tensor, quantisation)
  const layers = tensors.filter(isLayer).flatMap((codes) => quantisedLayer(parts, codes, quantisation))
  const names = new Set(layers.map(({ name }) => name))
  const expected = llamaTensors(shape)
  const others = tensors.filter((tensor) => {
    const { name } = tensor
    if (isLayer(tensor) || parts.isTaken(name) || OF_ACTIVATIONS.test(name)) return false
    // Writers of GPTQ add a bias of zeros to layers that have none.
    const ofLayer = name.endsWith('.bias') && names.has(name.replace(/bias$/, 'weight'))
    return !ofLayer || expected.has(name) || !isZero(files[tensor.file] ?? '', tensor)
  })
  return [...layers, ...others.map((tensor) => plainEntry(files, tensor))]
}

function isZero(path: string, { offset, dtype, shape }: LocatedTensor): boolean {
  const plain = PLAIN.find((each) => each === dtype)
  if (!plain) return false
  const bytes = tensorBytes(plain, shape)
  const buffer = Buffer.alloc(Math.min(bytes, BUFFER_BYTES))
  const isZeroIn = withRegularFile(path, (file) => {
    for (let at = 0; at < bytes; at += buffer.length) {
      const part = buffer.subarray(0, bytes - at)
      if (file.readAt(part, offset + at) < part.length || part.some((byte) => byte !== 0)) return false
    }
    return true
  })
  return isZeroIn ?? false
}
