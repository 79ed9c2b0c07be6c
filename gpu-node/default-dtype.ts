import type { Checkpoint } from './checkpoint/checkpoint.ts'
import { planMemory } from './engine/binding.ts'
import { defaultDType, type EngineOptions, isOnCuda, toEngineConfig } from './engine-options.ts'
import { StartupError } from './startup-error.ts'

/**
 * The options with the data type that is the default on the device which `auto` finds: a checkpoint may have one on CUDA
 * devices that the CPU does not compute in.
 */
export function withDefaultDType<Options extends EngineOptions>(
  checkpoint: Checkpoint,
  options: Options,
  plan: typeof planMemory = planMemory,
): Options {
  const onCuda = defaultDType(checkpoint.weights, true)
  const decided = options.dtype !== undefined || options.device === 'cpu' || isOnCuda(options)
  if (decided || onCuda === defaultDType(checkpoint.weights, false)) return options
  try {
    return plan(toEngineConfig(checkpoint, options)).device === 'cuda'
      ? { ...options, dtype: onCuda }
      : options
  } catch (error) {
    // Opening the engine meets it again.
    if (error instanceof StartupError) return options
    throw error
  }
}
