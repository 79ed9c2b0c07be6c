/** Ids of the objects of this isolate that are writing, or whose memory was lost while they were. */
const writing = new Set<string>()
/** By an object's id, when it last found out that a write had failed. */
const failures = new Map<string, number>()

/** An abort frees a little space, so that the next writes may succeed although the disk is as full as before. */
const SUSPECT_MS = 30_000

/**
 * Tells an object whether its writes have failed lately. When a write fails, because the disk is full, the runtime
 * aborts the object, which then starts again with what it had stored before and cannot know that it has lost something.
 * The module's memory survives that.
 */
export class WriteWatch {
  readonly #id: string

  constructor(id: string) {
    this.#id = id
    if (writing.delete(id)) failures.set(id, Date.now())
  }

  get failedLately(): boolean {
    const failure = failures.get(this.#id)
    if (failure === undefined) return false
    if (Math.abs(Date.now() - failure) < SUSPECT_MS) return true
    failures.delete(this.#id)
    return false
  }

  /** Writes, and waits until that is safe. @throws the error of the storage; the object is aborted then. */
  async write(storage: DurableObjectStorage, write: () => Promise<void>): Promise<void> {
    writing.add(this.#id)
    await write()
    await storage.sync()
    writing.delete(this.#id)
  }
}
