import { existsSync } from 'node:fs'
import { mkdir, open, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { AparError } from '../../../shared/errors.ts'

const STATE = 'state.json'
/** What every build has; a folder without it is not replaced. */
const REPORT = 'report.json'

/** How far a build has come, written beside its files. */
interface State<T> {
  /** Identifies input, options and model: another build does not go on from here. */
  key: string
  value: T
}

/**
 * Where a build is written: a folder beside its place, which takes that place when everything is in it. A build that was
 * cut leaves that folder, and the next one goes on in it.
 */
export class BuildFolder {
  readonly out: string
  /** The folder that is written to. */
  readonly path: string
  readonly #old: string

  constructor(out: string) {
    this.out = resolve(out)
    this.path = `${this.out}.building`
    this.#old = `${this.out}.old`
  }

  /** @throws AparError when something else than a build is in its place. */
  async prepare(): Promise<void> {
    await mkdir(dirname(this.out), { recursive: true })
    // Cut between the two renames of `finish`.
    if (existsSync(this.#old) && !existsSync(this.out)) await rename(this.#old, this.out)
    await rm(this.#old, { recursive: true, force: true })
    const files = await readdir(this.out).catch((error: NodeJS.ErrnoException): string[] => {
      if (error.code === 'ENOENT') return []
      throw new AparError('invalid_request', `${this.out}: ${error.message}`, { cause: error })
    })
    if (files.length === 0 || files.includes(REPORT)) return
    throw new AparError('invalid_request', `${this.out} is not empty and not a build: choose another folder`)
  }

  /** The last state of a build with the same key that was cut; else the folder is made anew, and it is undefined. */
  async resume<T>(key: string): Promise<T | undefined> {
    const state = await this.#readState<T>()
    if (state?.key === key) return state.value
    await rm(this.path, { recursive: true, force: true })
    await mkdir(this.path, { recursive: true })
    return undefined
  }

  async #readState<T>(): Promise<State<T> | undefined> {
    try {
      return JSON.parse(await readFile(join(this.path, STATE), 'utf8'))
    } catch {
      return undefined
    }
  }

  /** Written aside and renamed: there is always a whole one. */
  async save<T>(key: string, value: T): Promise<void> {
    const aside = join(this.path, `${STATE}.new`)
    await writeFile(aside, JSON.stringify({ key, value } satisfies State<T>), { flush: true })
    await rename(aside, join(this.path, STATE))
  }

  async finish(report: unknown): Promise<void> {
    await writeFile(join(this.path, REPORT), `${JSON.stringify(report, null, 2)}\n`, { flush: true })
    await rm(join(this.path, STATE), { force: true })
    const hadOne = existsSync(this.out)
    if (hadOne) await rename(this.out, this.#old)
    await rename(this.path, this.out)
    await syncFolder(dirname(this.out))
    await rm(this.#old, { recursive: true, force: true })
  }
}

async function syncFolder(path: string): Promise<void> {
  const handle = await open(path)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
