import { readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { z } from 'zod'
import { packageRoot } from '../../gpu-node/package-root.ts'
import { sizeOf } from './hub/hub-cache.ts'
import { isRelativePath, parseHubName } from './hub/hub-name.ts'
import { ownCache } from './hub/hub-settings.ts'

const relativePath = z.string().refine(isRelativePath, 'must stay within its folder')
const sha256 = z.string().regex(/^[0-9a-f]{64}$/)

/** In this repository. */
const FolderSource = z.strictObject({ folder: relativePath })
/** A file in a wheel of the Python package index. */
const PackageSource = z.strictObject({
  package: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.+!_-]*$/),
  file: relativePath,
  sha256,
  /** Size of the wheel. */
  packageBytes: z.int().min(1),
})
export type PackageSource = z.infer<typeof PackageSource>
/** A file on the hub: `OWNER/NAME[@REVISION]`. */
const HubSource = z.strictObject({
  hub: z
    .string()
    .refine((text) => parseHubName(text)?.file === undefined && parseHubName(text) !== undefined),
  file: relativePath,
  sha256,
})
export type HubSource = z.infer<typeof HubSource>
/** A LoRA adapter in this repository, merged at load into another known model. */
const AdapterSource = z.strictObject({ base: z.string(), adapter: relativePath })

const KnownModel = z.strictObject({
  about: z.string(),
  license: z.string(),
  /** A question that it answers well. */
  example: z.string().min(1).optional(),
  /** Of the model's files; of those in this repository for an adapter. */
  bytes: z.int().min(1),
  source: z.union([FolderSource, PackageSource, HubSource, AdapterSource]),
})
export type KnownModel = z.infer<typeof KnownModel>

const KnownModels = z
  .record(z.string().regex(/^[a-z0-9][a-z0-9.-]{0,63}$/), KnownModel)
  .superRefine((models, { addIssue }) => {
    for (const [name, { source }] of Object.entries(models)) {
      if (!('adapter' in source)) continue
      const base = models[source.base]
      if (!base || 'adapter' in base.source) {
        addIssue({ code: 'custom', message: `source.base: ${source.base} is no model here`, path: [name] })
      }
    }
  })
export type KnownModels = ReadonlyMap<string, KnownModel>

/** The models that have been tried with apar, by the names that `--model` takes (models/known.json). */
export function knownModels(file = join(packageRoot, 'models/known.json')): KnownModels {
  return new Map(Object.entries(KnownModels.parse(JSON.parse(readFileSync(file, 'utf8')))))
}

/** Where a file of a package is kept. */
export function packageFilePath(name: string, source: PackageSource, cache = ownCache()): string {
  return join(cache, name, basename(source.file))
}

/** Whether the file of a package is here. It appears under its name when it is whole and checked. */
export function hasPackageFile(name: string, { bytes }: KnownModel, source: PackageSource): boolean {
  return sizeOf(packageFilePath(name, source)) === bytes
}
