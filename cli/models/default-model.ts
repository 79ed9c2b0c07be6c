import { UserError } from '../explain.ts'
import { type KnownModels, knownModels } from './known.ts'
import { pullModel } from './pull.ts'
import { notPulled, type ResolvedModel, resolveKnown } from './resolve.ts'
import { showProgress } from './show-progress.ts'

/** What is served without --model: a name of models/known.json. */
export const DEFAULT_MODEL = 'smollm2-135m-apar'
/** Needs no download. */
export const EMBEDDED_MODEL = 'demo'

export interface DefaultModelOptions {
  readonly name?: string
  readonly models?: KnownModels
  /** Downloads the model. */
  readonly pull?: (name: string) => Promise<unknown>
  /** Gets a line for the user. */
  readonly say?: (line: string) => void
}

/**
 * The default model, downloaded if it is not here yet; when that fails, the embedded one, with a line that says why.
 * (docs/adr/0045)
 * @throws UserError `cancelled`
 */
export async function resolveDefault(options: DefaultModelOptions = {}): Promise<ResolvedModel> {
  const { name = DEFAULT_MODEL, models = knownModels(), pull = pullShown, say = console.error } = options
  const here = resolveKnown(name, models)
  if (here) return here
  let reason = 'it is not whole'
  try {
    await pull(name)
  } catch (error) {
    if (!(error instanceof UserError) || error.code === 'cancelled') throw error
    reason = `${error.message} (${error.code})`
  }
  const pulled = resolveKnown(name, models)
  if (pulled) return pulled
  const embedded = resolveKnown(EMBEDDED_MODEL, models)
  if (!embedded) throw new Error(`${EMBEDDED_MODEL} is not in this package`)
  say(
    `apar: serving ${EMBEDDED_MODEL}, a tiny model about command lines, because ${name} is not here: ${reason}`,
  )
  return embedded
}

/** The default model as it is here. @throws UserError `model_not_pulled` */
export function presentDefault(models = knownModels()): ResolvedModel {
  return resolveKnown(DEFAULT_MODEL, models) ?? notPulled(DEFAULT_MODEL)
}

async function pullShown(name: string): Promise<void> {
  const progress = showProgress()
  await progress.during(() => pullModel(name, { progress }))
}
