import type { WorkerOptions } from 'miniflare'

type DurableObjects = Record<string, { className: string; useSQLite: boolean }>

/** The options of the worker, as edge/build.mjs defines them. */
export type EdgeWorker = Omit<WorkerOptions, 'durableObjects'> & {
  name: string
  durableObjects: DurableObjects
}

/**
 * The classes that store something. workerd makes a file for every object of a worker whose storage is on disk, even
 * if the object stores nothing, and the file remains when the object has deleted its storage.
 */
const STORED_CLASSES = ['KeyLimits', 'KeyStore', 'Fleet', 'StreamRecords', 'FeedbackStore'] as const

/** The folder of a class within the state folder. Earlier versions had one for every class. */
function folderOf({ name }: EdgeWorker, className: string): string {
  return `${name}-${className}`
}

function isStored(className: string): boolean {
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

/**
 * The same worker twice: one answers the requests and keeps its objects in memory, the other has the objects of the
 * stored classes. On Cloudflare one worker has all of them.
 */
export function localWorkers(worker: EdgeWorker): [EdgeWorker, EdgeWorker] {
  const stored = { ...worker, name: `${worker.name}-state` }
  const bindings = (own: EdgeWorker) =>
    Object.fromEntries(
      Object.entries(worker.durableObjects).map(([binding, { className, useSQLite }]) => {
        const owner = isStored(className) ? stored : worker
        const elsewhere = owner.name !== own.name
        const unsafeUniqueKey = folderOf(worker, className)
        return [
          binding,
          { className, useSQLite, unsafeUniqueKey, ...(elsewhere && { scriptName: owner.name }) },
        ]
      }),
    )
  return [
    { ...worker, durableObjects: bindings(worker), unsafeEphemeralDurableObjects: true },
    { ...stored, durableObjects: bindings(stored) },
  ]
}
