import { readCheckpoint } from './checkpoint/checkpoint.ts'
import { openEngine } from './engine/binding.ts'
import type { OnLoading } from './engine/engine.ts'
import { type EngineOptions, toEngineConfig } from './engine-options.ts'
import { Runner } from './requests/runner.ts'
import { PromptEncoder } from './text/prompt-encoder.ts'
import { flatBytes } from './text/token-bytes.ts'

/**
 * Reads a checkpoint's folder and opens an engine on it.
 * @throws StartupError with a one-line message about the folder, the options or the engine.
 */
export async function openRunner(
  folder: string,
  options: EngineOptions & { name?: string | undefined; onLoading?: OnLoading | undefined } = {},
) {
  const checkpoint = readCheckpoint(folder)
  const { fork, child, eos } = checkpoint.tokens
  const control = [fork, child, ...eos].filter((id) => id !== undefined)
  const prompts = new PromptEncoder(checkpoint.text, control)
  const text = {
    ...flatBytes(prompts.bytes, checkpoint.shape.vocabSize),
    dropsLeadingSpace: prompts.dropsLeadingSpace,
    mendsJoints: checkpoint.joints === 'mended',
  }
  const config = { ...toEngineConfig(checkpoint, options), text }
  return await Runner.open({
    model: options.name ?? checkpoint.name,
    checkpoint,
    prompts,
    maxBranches: config.maxBranches,
    openEngine: (onEvents) => openEngine(config, onEvents, options.onLoading),
  })
}
