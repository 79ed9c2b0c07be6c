/** The worker as edge/build.mjs defines it. */
export interface EdgeWorker {
  readonly name: string
  /** Files of one folder; the first one is the worker, and imports the others. */
  readonly modules: readonly string[]
  readonly compatibilityDate: string
  readonly compatibilityFlags: readonly string[]
  /** By the name of the binding. */
  readonly durableObjects: Readonly<Record<string, { readonly className: string }>>
  readonly ratelimits: Readonly<
    Record<string, { readonly simple: { readonly limit: number; readonly period: number } }>
  >
}

/**
 * The classes that store something. workerd makes a file for every object of a worker whose storage is on disk, even
 * if the object stores nothing, and the file remains when the object has deleted its storage.
 */
const STORED_CLASSES = [
  'KeyLimits',
  'KeyStore',
  'Fleet',
  'StreamRecords',
  'FeedbackStore',
  'ResponseStore',
] as const

/** The folder of a class within the state folder. Earlier versions had one for every class. */
export function folderOf({ name }: EdgeWorker, className: string): string {
  return `${name}-${className}`
}

export function isStored(className: string): boolean {
  return STORED_CLASSES.some((name) => name === className)
}

/** The folders within the state folder, of the classes that store something and of the others. */
export function stateFolders(worker: EdgeWorker): { stored: string[]; unstored: string[] } {
  const classes = Object.values(worker.durableObjects).map(({ className }) => className)
  const folders = (names: string[]) => names.map((name) => folderOf(worker, name))
  return {
    stored: folders(classes.filter(isStored)),
    unstored: folders(classes.filter((name) => !isStored(name))),
  }
}
