import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { AparError } from '../../shared/errors.ts'
import { parse } from '../../shared/parse.ts'
import { StartupError } from '../startup-error.ts'
import type { Engine, EngineInfo, OnEvents, OnLoading, OnPlan } from './engine.ts'
import { EngineConfig } from './engine-config.ts'
import { EngineError, toEngineError } from './engine-error.ts'
import { ADDON } from './engine-files.ts'
import { type EngineRequest, engineRequestSchema } from './engine-request.ts'
import { type MemoryPlan, type NativeMemoryPlan, withContext } from './memory-plan.ts'
import { NO_TEXT, type TokenTable } from './token-table.ts'

const REMEDY = 'apar engine build builds it'

/** An engine as native code returns it: its `contextTokens` is that of the plan. */
type NativeEngine = Omit<Engine, 'info'> & { readonly info: Omit<EngineInfo, 'contextTokens'> }

/** A model whose weights are loaded, as native code has it. */
type NativeModel = object

interface Addon {
  planMemory(config: EngineConfig): NativeMemoryPlan
  load(config: EngineConfig, onLoading?: OnLoading): Promise<NativeModel>
  start(model: NativeModel, text: TokenTable, onEvents: OnEvents): NativeEngine
}

export interface LoadingCallbacks {
  onPlan?: OnPlan | undefined
  onLoading?: OnLoading | undefined
}

/** A model whose weights are loaded, for one engine. */
export interface LoadedModel {
  /**
   * Starts the engine's thread.
   * @throws StartupError `engine_unavailable` when it cannot start.
   */
  start(text: TokenTable, onEvents: OnEvents): Engine
}

/**
 * Plans the memory and loads the weights. A context that the KV pool cannot hold is shortened: requests end there as
 * they end at the model's context.
 * @throws StartupError `engine_missing` when the engine was not built, `engine_unavailable` when it cannot load the model.
 */
export async function loadModel(
  config: EngineConfig,
  { onPlan, onLoading }: LoadingCallbacks = {},
): Promise<LoadedModel> {
  const addon = loadAddon()
  try {
    const checked = checkConfig(config)
    const plan = planned(addon, checked)
    if (plan.refusal !== undefined) throw new EngineError('out_of_memory', plan.refusal)
    onPlan?.(plan)
    const { numBlocks, maxStepTokens, contextTokens } = plan
    const fitted = { ...checked, numBlocks, maxStepTokens, model: { ...checked.model, contextTokens } }
    const native = await addon.load(fitted, onLoading)
    return { start: (text, onEvents) => start(addon, native, fitted.model, text, onEvents) }
  } catch (thrown) {
    throw cannotStart(thrown)
  }
}

function start(
  addon: Addon,
  native: NativeModel,
  model: EngineConfig['model'],
  text: TokenTable,
  onEvents: OnEvents,
): Engine {
  try {
    return withChecks(addon.start(native, text, onEvents), model)
  } catch (thrown) {
    throw cannotStart(thrown)
  }
}

/** {@link loadModel}, and an engine that does not know its tokens' text. @throws StartupError as both. */
export async function openEngine(
  config: EngineConfig,
  onEvents: OnEvents,
  callbacks: LoadingCallbacks = {},
): Promise<Engine> {
  const model = await loadModel(config, callbacks)
  return model.start(NO_TEXT, onEvents)
}

/**
 * Plans the memory without reading weights: what {@link loadModel} would take, also where it does not fit
 * (`refusal`).
 * @throws StartupError as loadModel.
 */
export function planMemory(config: EngineConfig): MemoryPlan {
  const addon = loadAddon()
  try {
    return planned(addon, checkConfig(config))
  } catch (thrown) {
    throw cannotStart(thrown)
  }
}

function checkConfig(config: EngineConfig): EngineConfig {
  return parseEngine(() => parse(EngineConfig, config), 'invalid_config')
}

function planned(addon: Addon, config: EngineConfig): MemoryPlan {
  const { model, tokens } = config
  return withContext(addon.planMemory(config), model.contextTokens, tokens.fork >= 0)
}

function cannotStart(thrown: unknown): StartupError {
  const error = toEngineError(thrown)
  const message = `the engine cannot start: ${error.message} (${error.code})`
  return new StartupError('engine_unavailable', message, error)
}

/** Wraps the native engine: validates requests and converts native errors to EngineError. */
function withChecks(native: NativeEngine, { vocabSize, contextTokens }: EngineConfig['model']): Engine {
  const schema = engineRequestSchema(vocabSize)
  const info = { ...native.info, contextTokens }
  return {
    info,
    submit(request: EngineRequest): void {
      const checked = parseEngine(() => parse(schema, request), 'invalid_request')
      callNative(() => native.submit(checked))
    },
    abort(requestId, branchId) {
      callNative(() => (branchId === undefined ? native.abort(requestId) : native.abort(requestId, branchId)))
    },
    stats: () => callNative(() => native.stats()),
    loadGrammar: async (folder, compiled) => {
      try {
        return await native.loadGrammar(folder, compiled)
      } catch (thrown) {
        throw toEngineError(thrown)
      }
    },
    close: () => native.close(),
  }
}

function callNative<T>(call: () => T): T {
  try {
    return call()
  } catch (thrown) {
    throw toEngineError(thrown)
  }
}

function parseEngine<T>(read: () => T, code: 'invalid_config' | 'invalid_request'): T {
  try {
    return read()
  } catch (error) {
    if (error instanceof AparError) throw new EngineError(code, error.message, error)
    throw error
  }
}

function loadAddon(): Addon {
  if (!existsSync(ADDON)) {
    throw new StartupError('engine_missing', `the engine is not built (${ADDON} is missing): ${REMEDY}`)
  }
  try {
    const addon: unknown = createRequire(import.meta.url)(ADDON)
    if (isAddon(addon)) return addon
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.split('\n')[0] : String(cause)
    throw new StartupError('engine_missing', `the engine cannot be loaded: ${reason}; ${REMEDY}`, cause)
  }
  throw new StartupError('engine_missing', `${ADDON} is not apar's engine: ${REMEDY}`)
}

function isAddon(value: unknown): value is Addon {
  return typeof value === 'object' && value !== null && 'load' in value && typeof value.load === 'function'
}
