import { readCheckpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import { modelReasoning } from '../../gpu-node/reasoning/reasoning-format.ts'
import { Runner } from '../../gpu-node/requests/runner.ts'
import { modelTools } from '../../gpu-node/tools/tool-format.ts'
import { inlinePrompts } from './inline-prompts.ts'
import { ScriptedEngine } from './scripted-engine.ts'
import type { TinyFolder } from './tiny-checkpoint.ts'

/** A runner of the model `tiny` with a scripted engine, whose pool holds `contextTokens`. */
export async function scriptedRunner(
  folder: TinyFolder,
  contextTokens?: number,
): Promise<{ runner: Runner; engine: ScriptedEngine }> {
  const checkpoint = readCheckpoint(folder.path)
  let engine: ScriptedEngine | undefined
  const runner = await Runner.open({
    model: 'tiny',
    checkpoint,
    prompts: inlinePrompts(checkpoint),
    tools: modelTools(checkpoint.text),
    reasoning: modelReasoning(checkpoint.text),
    maxBranches: 8,
    openEngine: async (onEvents) => {
      engine = new ScriptedEngine(onEvents, contextTokens)
      return engine
    },
  })
  if (!engine) throw new Error('the runner opened no engine')
  return { runner, engine }
}
