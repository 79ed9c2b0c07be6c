import type { TensorEntry } from '../../engine/engine-config.ts'

/** A tensor type of ggml. A row is stored as blocks of `blockElements` weights in `blockBytes` bytes. */
export interface TensorType {
  readonly name: TensorEntry['dtype']
  readonly blockElements: number
  readonly blockBytes: number
}

const type = (name: TensorEntry['dtype'], blockElements: number, blockBytes: number): TensorType => ({
  name,
  blockElements,
  blockBytes,
})

/** By ggml's number (enum ggml_type). */
export const TENSOR_TYPES: ReadonlyMap<number, TensorType> = new Map([
  [0, type('F32', 1, 4)],
  [1, type('F16', 1, 2)],
  [2, type('Q4_0', 32, 18)],
  [3, type('Q4_1', 32, 20)],
  [6, type('Q5_0', 32, 22)],
  [7, type('Q5_1', 32, 24)],
  [8, type('Q8_0', 32, 34)],
  [10, type('Q2_K', 256, 84)],
  [11, type('Q3_K', 256, 110)],
  [12, type('Q4_K', 256, 144)],
  [13, type('Q5_K', 256, 176)],
  [14, type('Q6_K', 256, 210)],
  [20, type('IQ4_NL', 32, 18)],
  [30, type('BF16', 1, 2)],
])
