import { basename, resolve } from 'node:path'
import type { ResolvedModel } from './resolve.ts'

/** What clients call a model; undefined where its folder or file gives the name. */
export function servedName(
  model: Pick<ResolvedModel, 'name'>,
  { name, adapter }: { name?: string; adapter?: string },
): string | undefined {
  if (name !== undefined || model.name === undefined) return name
  return adapter === undefined ? model.name : `${model.name}+${basename(resolve(adapter))}`
}
