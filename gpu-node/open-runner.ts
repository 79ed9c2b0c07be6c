import type { ChildProcess } from 'node:child_process'
import { type CheckpointOptions, readCheckpoint } from './checkpoint/checkpoint.ts'
import { describeMedusa } from './checkpoint/medusa/describe-medusa.ts'
import { withDefaultDType } from './default-dtype.ts'
import { type LoadingCallbacks, loadModel } from './engine/binding.ts'
import { dtypeNote, type EngineOptions, storageNote, toEngineConfig } from './engine-options.ts'
import { Grammars } from './grammar/grammars.ts'
import { modelReasoning } from './reasoning/reasoning-format.ts'
import { Runner } from './requests/runner.ts'
import { PromptPool, poolBytes } from './text/prompt-pool.ts'
import { bootWorker, endWorker } from './text/prompt-process.ts'
import { withMarkers } from './text/token-bytes.ts'
import { modelTools, toolsNote } from './tools/tool-format.ts'

/** Milliseconds from the start of the engine to that of the process for long prompts. */
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

type OpenOptions = EngineOptions & LoadingCallbacks & RunnerOpenOptions

/**
 * Reads a checkpoint's folder and opens an engine on it.
 * @throws StartupError with a one-line message about the folder, the options or the engine.
 */
export async function openRunner(folder: string, options: OpenOptions = {}): Promise<Runner> {
  // It starts while this one reads the checkpoint.
  const booted = bootWorker()
  try {
    return await openWith(booted, folder, options)
  } catch (error) {
    await endWorker(booted)
    throw error
  }
}

async function openWith(booted: ChildProcess, folder: string, options: OpenOptions): Promise<Runner> {
  const checkpoint = readCheckpoint(folder, options)
  for (const warning of checkpoint.warnings) options.onWarning?.(warning)
  const engineConfig = toEngineConfig(checkpoint, withDefaultDType(checkpoint, options))
  const note = dtypeNote(checkpoint, options) ?? storageNote(checkpoint.weights, engineConfig.dtype)
  if (note) options.onNote?.(note)
  const aboutTools = toolsNote(checkpoint.text, checkpoint.text.toolFormat)
  if (aboutTools) options.onNote?.(aboutTools)
  if (checkpoint.medusa) options.onNote?.(`Medusa: ${describeMedusa(checkpoint.medusa)}`)
  const { fork, child, eos } = checkpoint.tokens
  const controlIds = [fork, child, ...eos].filter((id) => id !== undefined)
  const { text: files, shape } = checkpoint
  // A process reads the tokenizer and a thread the weights at the same time, and this one computes the digest meanwhile.
  const { vocabSize } = shape
  const opening = PromptPool.open({ files, controlIds, vocabSize, booted })
  const loading = loadModel({ ...engineConfig, reservedBytes: poolBytes(vocabSize) }, options)
  const served = async () => ({ ...checkpoint, text: { chatTemplate: files.chatTemplate } })
  const [prompts, model, servedCheckpoint] = await Promise.all([opening, loading, served()])
  const tools = modelTools(files, files.toolFormat)
  const reasoning = modelReasoning(files, files.reasoningFormat)
  const markers = { ...tools.tokens, ...reasoning?.tokens }
  const text = {
    ...withMarkers(prompts.bytes, markers).flat(vocabSize),
    markers: Int32Array.from(Object.values(markers)),
    dropsLeadingSpace: prompts.dropsLeadingSpace,
    mendsJoints: checkpoint.joints === 'mended',
  }
  const runner = await Runner.open({
    model: options.name ?? checkpoint.name,
    checkpoint: servedCheckpoint,
    prompts,
    tools,
    reasoning,
    maxBranches: engineConfig.maxBranches,
    allowReplay: options.allowReplay,
    openGrammars: Grammars.available
      ? (load) => new Grammars({ text, eos: engineConfig.tokens.eos }, load)
      : undefined,
    openEngine: async (onEvents) => model.start(text, onEvents),
  })
  // The first request takes all cores; only long prompts need it.
  setTimeout(() => prompts.loadRest(), LOAD_REST_MS).unref()
  return runner
}
