import { basename, resolve } from 'node:path'
import { UserError } from '../explain.ts'
import type { ResolvedModel } from './resolve.ts'

/** What clients call a model; undefined where its folder or file gives the name. */
export function servedName(
  model: Pick<ResolvedModel, 'name'>,
  { name, adapter }: { name?: string; adapter?: string },
): string | undefined {
  if (name !== undefined || model.name === undefined) return name
  return adapter === undefined ? model.name : `${model.name}+${basename(resolve(adapter))}`
}

/**
 * The adapter to merge: the option's, or that of the known model.
 * @throws UserError `invalid_option` for two
 */
export function adapterOf(
  model: { readonly name?: string | undefined; readonly adapter?: string | undefined },
  { adapter }: { adapter?: string | undefined },
): string | undefined {
  if (adapter !== undefined && model.adapter !== undefined) {
    throw new UserError(
      'invalid_option',
      `--adapter: ${model.name} has an adapter already: name its base as --model`,
    )
  }
  return adapter ?? model.adapter
}
