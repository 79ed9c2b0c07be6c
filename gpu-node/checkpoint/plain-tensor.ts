import type { TensorEntry } from '../engine/engine-config.ts'
import { unsupported } from './refusals.ts'
import type { StoredTensor } from './safetensors.ts'

/** Element types of tensors that hold weights or scales as they are. */
export const PLAIN = ['F32', 'BF16', 'F16'] as const
export type PlainDtype = (typeof PLAIN)[number]

/** A tensor with the index of its file. */
export type LocatedTensor = StoredTensor & { readonly file: number }

/** @throws StartupError for any other element type. `where`: file and tensor. */
export function plainDtype(dtype: string, where: string): PlainDtype {
  const found = PLAIN.find((plain) => plain === dtype)
  if (found) return found
  throw unsupported(`${where}: dtype ${dtype} is not served (${PLAIN.join(', ')} are)`)
}

/** The weight table's entry of a tensor that is not stored as codes. @throws StartupError as {@link plainDtype}. */
export function plainEntry(files: readonly string[], tensor: LocatedTensor): TensorEntry {
  return { ...tensor, dtype: plainDtype(tensor.dtype, `${files[tensor.file]}: ${tensor.name}`) }
}
