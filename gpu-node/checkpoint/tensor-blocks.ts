import type { TensorEntry } from '../engine/engine-config.ts'

/** `elements` weights are stored in `bytes` bytes: a block of a row, or a word of codes. */
export interface TensorBlock {
  readonly elements: number
  readonly bytes: number
}

export const TENSOR_BLOCKS: Record<TensorEntry['dtype'], TensorBlock> = {
  F32: { elements: 1, bytes: 4 },
  F16: { elements: 1, bytes: 2 },
  BF16: { elements: 1, bytes: 2 },
  Q8_0: { elements: 32, bytes: 34 },
  Q4_0: { elements: 32, bytes: 18 },
  Q4_1: { elements: 32, bytes: 20 },
  Q5_0: { elements: 32, bytes: 22 },
  Q5_1: { elements: 32, bytes: 24 },
  Q2_K: { elements: 256, bytes: 84 },
  Q3_K: { elements: 256, bytes: 110 },
  Q4_K: { elements: 256, bytes: 144 },
  Q5_K: { elements: 256, bytes: 176 },
  Q6_K: { elements: 256, bytes: 210 },
  IQ4_NL: { elements: 32, bytes: 18 },
  F8_E4M3: { elements: 1, bytes: 1 },
  AWQ_4: { elements: 8, bytes: 4 },
  GPTQ_4: { elements: 8, bytes: 4 },
  GPTQ_8: { elements: 4, bytes: 4 },
  I32: { elements: 1, bytes: 4 },
}

/** Bytes of a tensor of whole blocks. */
export function tensorBytes(dtype: TensorEntry['dtype'], shape: readonly number[]): number {
  const { elements, bytes } = TENSOR_BLOCKS[dtype]
  return shape.reduce((product, length) => product * length, bytes / elements)
}
