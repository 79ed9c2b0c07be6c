/** What ggml's graph of an architecture does, where architectures differ. */
export interface GgufArchitecture {
  /**
   * It rotates neighbouring elements: its writer interleaves the two halves of each head's rows in q and k
   * (TensorEntry.interleavedHeads).
   */
  readonly interleaves: boolean
  readonly qkvBias: boolean
  readonly headNorms: boolean
  /** Every layer of this number does not rotate; the file does not say so. */
  readonly noRopeInterval?: number
}

const QWEN2: GgufArchitecture = { interleaves: false, qkvBias: true, headNorms: false }
const LLAMA: GgufArchitecture = { interleaves: true, qkvBias: false, headNorms: false }

/** By `general.architecture`. Mistral's files are of the architecture llama. */
export const GGUF_ARCHITECTURES: ReadonlyMap<string, GgufArchitecture> = new Map([
  ['llama', LLAMA],
  ['qwen2', QWEN2],
  ['qwen3', { ...QWEN2, qkvBias: false, headNorms: true }],
  ['smollm3', { ...LLAMA, noRopeInterval: 4 }],
])
