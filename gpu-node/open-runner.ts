import { type CheckpointOptions, readCheckpoint } from './checkpoint/checkpoint.ts'
import { describeMedusa } from './checkpoint/medusa/describe-medusa.ts'
import { type OpenCallbacks, openEngine } from './engine/binding.ts'
import { dtypeNote, type EngineOptions, storageNote, toEngineConfig } from './engine-options.ts'
import { Grammars } from './grammar/grammars.ts'
import { Runner } from './requests/runner.ts'
import { PromptPool } from './text/prompt-pool.ts'
import { flatBytes, withMarkers } from './text/token-bytes.ts'
import { modelTools } from './tools/tool-format.ts'

/** Milliseconds from the start of the engine to that of the thread for long prompts. */
const LOAD_REST_MS = 3_000

interface RunnerOpenOptions extends CheckpointOptions {
  /** What clients call the model. */
  name?: string | undefined
  /** Called with a sentence each for what an operator should know about the checkpoint. */
  onWarning?: ((warning: string) => void) | undefined
  /** The same for how it is run. */
  onNote?: ((note: string) => void) | undefined
  /** As in RunnerOptions. */
  allowReplay?: boolean | undefined
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
  if (checkpoint.medusa) options.onNote?.(`Medusa: ${describeMedusa(checkpoint.medusa)}`)
  const { fork, child, eos } = checkpoint.tokens
  const controlIds = [fork, child, ...eos].filter((id) => id !== undefined)
  const { text: files, shape } = checkpoint
  const opening = PromptPool.open({ files, controlIds, vocabSize: shape.vocabSize })
  // The digest, while the thread loads.
  const served = await orClose(opening, () => ({ ...checkpoint, text: { chatTemplate: files.chatTemplate } }))
  const tools = modelTools(files, files.toolFormat)
  const prompts = await opening
  const text = {
    ...flatBytes(withMarkers(prompts.bytes, tools), shape.vocabSize),
    markers: Int32Array.from(Object.values(tools.tokens)),
    dropsLeadingSpace: prompts.dropsLeadingSpace,
    mendsJoints: checkpoint.joints === 'mended',
  }
  const config = { ...engineConfig, text, reservedBytes: prompts.bytesToLoad }
  const runner = await Runner.open({
    model: options.name ?? checkpoint.name,
    checkpoint: served,
    prompts,
    tools,
    maxBranches: config.maxBranches,
    allowReplay: options.allowReplay,
    openGrammars: Grammars.available
      ? (load) => new Grammars({ text, eos: config.tokens.eos }, load)
      : undefined,
    openEngine: (onEvents) => openEngine(config, onEvents, options),
  })
  // Reading the weights takes all cores, and so does the first request; only long prompts need it.
  setTimeout(() => prompts.loadRest(), LOAD_REST_MS).unref()
  return runner
}

/** What `compute` returns; if it throws, the pool is closed first. */
async function orClose<T>(opening: Promise<PromptPool>, compute: () => T): Promise<T> {
  try {
    return compute()
  } catch (error) {
    await opening.then((prompts) => prompts.close()).catch(() => {})
    throw error
  }
}
