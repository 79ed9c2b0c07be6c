import { PacedEngine } from '../../../bench/edge/paced-engine.ts'
import { readCheckpoint } from '../../../gpu-node/checkpoint/checkpoint.ts'
import { packageRoot } from '../../../gpu-node/package-root.ts'
import { Runner } from '../../../gpu-node/requests/runner.ts'
import { ServedStreams } from '../../../gpu-node/requests/served-streams.ts'
import { inlinePrompts } from '../../support/inline-prompts.ts'

/** ServedStreams without a gpu node: the demo model's tokenizer and template, and a paced engine. */
export async function pacedStreams(): Promise<ServedStreams> {
  return new ServedStreams(await pacedRunner(), 0)
}

async function pacedRunner(): Promise<Runner> {
  const checkpoint = { ...readCheckpoint(`${packageRoot}/models/demo`), name: 'demo' }
  const { fork = -1, child = -1 } = checkpoint.tokens
  return await Runner.open({
    model: 'demo',
    checkpoint,
    prompts: inlinePrompts(checkpoint),
    maxBranches: 64,
    openEngine: async (onEvents) =>
      new PacedEngine({ stepMs: 1, tokens: { fork, child, text: 300 }, onBegun: () => {} }, onEvents),
  })
}
