import { readCheckpoint } from './checkpoint/checkpoint.ts'
import { type OpenCallbacks, openEngine } from './engine/binding.ts'
import { dtypeNote, type EngineOptions, toEngineConfig } from './engine-options.ts'
import { Runner } from './requests/runner.ts'
import { PromptPool } from './text/prompt-pool.ts'
import { flatBytes } from './text/token-bytes.ts'

interface RunnerOptions extends EngineOptions, OpenCallbacks {
  name?: string | undefined
  /** Folder of a LoRA adapter that is merged into the checkpoint. */
  adapter?: string | undefined
  /** Called with what an operator should know about how the checkpoint is run. */
  onNote?: ((note: string) => void) | undefined
}

/**
 * Reads a checkpoint's folder and opens an engine on it.
 * @throws StartupError with a one-line message about the folder, the options or the engine.
 */
export async function openRunner(folder: string, options: RunnerOptions = {}) {
  const checkpoint = readCheckpoint(folder, options)
  const note = dtypeNote(checkpoint, options)
  if (note) options.onNote?.(note)
  const { fork, child, eos } = checkpoint.tokens
  const controlIds = [fork, child, ...eos].filter((id) => id !== undefined)
  const { text: files, shape } = checkpoint
  const prompts = await PromptPool.open({ files, controlIds, vocabSize: shape.vocabSize })
  const text = {
    ...flatBytes(prompts.bytes, shape.vocabSize),
    dropsLeadingSpace: prompts.dropsLeadingSpace,
    mendsJoints: checkpoint.joints === 'mended',
  }
  const config = { ...toEngineConfig(checkpoint, options), text }
  return await Runner.open({
    model: options.name ?? checkpoint.name,
    checkpoint: { ...checkpoint, text: { chatTemplate: files.chatTemplate } },
    prompts,
    maxBranches: config.maxBranches,
    openEngine: (onEvents) => openEngine(config, onEvents, options),
  })
}
