/** The objects of this isolate that are writing, or whose memory was lost while they were. */
const writing = new Set<string>()

/**
 * Tells an object whether its last write has failed. When a write fails, because the disk is full, the runtime aborts
 * the object, which then starts again with what it had stored before and cannot know that it has lost something. The
 * module's memory survives that.
 */
export class WriteWatch {
  readonly #id: string
  #failed: boolean

  constructor(id: string) {
    this.#id = id
    this.#failed = writing.has(id)
  }

  /** The last write failed, or it is not known that it did not. */
  get failed(): boolean {
    return this.#failed
  }

  /** Writes, and waits until that is safe. @throws the error of the storage; the object is aborted then. */
  async write(storage: DurableObjectStorage, write: () => Promise<void>): Promise<void> {
    writing.add(this.#id)
    await write()
    await storage.sync()
    writing.delete(this.#id)
    this.#failed = false
  }
}
