import { type CheckpointOptions, readCheckpoint } from './checkpoint/checkpoint.ts'
import { type OpenCallbacks, openEngine } from './engine/binding.ts'
import { dtypeNote, type EngineOptions, storageNote, toEngineConfig } from './engine-options.ts'
import { Runner } from './requests/runner.ts'
import { PromptPool } from './text/prompt-pool.ts'
import { flatBytes } from './text/token-bytes.ts'

interface RunnerOpenOptions extends CheckpointOptions {
  /** What clients call the model. */
  name?: string | undefined
  /** Called with a sentence each for what an operator should know about the checkpoint. */
  onWarning?: ((warning: string) => void) | undefined
  /** The same for how it is run. */
  onNote?: ((note: string) => void) | undefined
}

/**
 * Reads a checkpoint's folder and opens an engine on it.
 * @throws StartupError with a one-line message about the folder, the options or the engine.
 */
export async function openRunner(
  folder: string,
  options: EngineOptions & OpenCallbacks & RunnerOpenOptions = {},
) {
  const checkpoint = readCheckpoint(folder, options)
  for (const warning of checkpoint.warnings) options.onWarning?.(warning)
  const engineConfig = toEngineConfig(checkpoint, options)
  const note = dtypeNote(checkpoint, options) ?? storageNote(checkpoint.weights, engineConfig.dtype)
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
  const config = { ...engineConfig, text, reservedBytes: prompts.bytesToLoad }
  const runner = await Runner.open({
    model: options.name ?? checkpoint.name,
    checkpoint: { ...checkpoint, text: { chatTemplate: files.chatTemplate } },
    prompts,
    maxBranches: config.maxBranches,
    openEngine: (onEvents) => openEngine(config, onEvents, options),
  })
  // Not before: reading the weights takes all cores, and short prompts do not need it.
  prompts.loadRest()
  return runner
}
