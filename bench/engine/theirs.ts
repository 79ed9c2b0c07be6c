import { Peer, PeerBinding } from '../peer/peer.ts'
import type { CpuDType } from './cases.ts'
import { type ModelName, randomPrompt } from './random-llama.ts'
import type { Side } from './side.ts'
import { BOS } from './vocabulary.ts'

/** llama.cpp, called through the driver. */
export async function openTheirs(model: ModelName, dtype: CpuDType, threads: number): Promise<Side> {
  const peer = new Peer(threads)
  await peer.load(model, dtype)
  return {
    async rate({ kind, rows, prompt, each }, seed) {
      const ids = randomPrompt(prompt, seed)
      const { tokens, seconds } = await (kind === 'prefill'
        ? peer.prefill(ids)
        : peer.decode(ids, rows, each))
      return tokens / seconds
    },
    close: () => peer.close(),
  }
}

/** llama.cpp, called through node-llama-cpp's JavaScript API. */
export async function openTheirsInNode(model: ModelName, dtype: CpuDType, threads: number): Promise<Side> {
  const peer = new PeerBinding()
  await peer.load(model, dtype, threads)
  return {
    async rate({ each }) {
      // The same number of tokens as the gpu node's template gives for a message of one letter.
      const { tokens, seconds } = await peer.decode(Int32Array.of(BOS, 100), each)
      return tokens / seconds
    },
    close: () => peer.close(),
  }
}
