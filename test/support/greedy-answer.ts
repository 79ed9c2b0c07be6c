import type { Checkpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import { openEngine } from '../../gpu-node/engine/binding.ts'
import type { DType } from '../../gpu-node/engine/engine-config.ts'
import { EVENT, EVENT_WIDTH } from '../../gpu-node/engine/engine-events.ts'
import { toEngineConfig } from '../../gpu-node/engine-options.ts'
import { engineRequest } from './engine-request.ts'

/** Tokens of a greedy answer, each with the bits of its log-probability and of the likeliest five. */
export async function greedyAnswer(
  checkpoint: Pick<Checkpoint, 'shape' | 'weights' | 'tokens'>,
  prompt: Int32Array,
  dtype: DType,
): Promise<number[]> {
  const numbers: number[] = []
  let finish = () => {}
  const finished = new Promise<void>((resolve) => {
    finish = resolve
  })
  const config = toEngineConfig(checkpoint as Checkpoint, { device: 'cpu', threads: 1, dtype, numBlocks: 64 })
  const engine = await openEngine(config, (rows) => {
    for (let row = 0; row < rows.length; row += EVENT_WIDTH) {
      if (rows[row] === EVENT.FINISH) finish()
      else if (rows[row] !== EVENT.SPECULATION) numbers.push(...rows.subarray(row, row + EVENT_WIDTH))
    }
  })
  engine.submit(engineRequest({ id: 1, prompt, maxTokens: 12, logprobs: 5 }))
  await finished
  await engine.close()
  return numbers
}
