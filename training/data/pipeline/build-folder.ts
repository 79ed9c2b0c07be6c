import { existsSync } from 'node:fs'
import { mkdir, open, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, extname, join, relative, resolve } from 'node:path'
import { StartupError } from '../../../gpu-node/startup-error.ts'
import { AparError } from '../../../shared/errors.ts'
import { SPLITS, TEXT_FILES } from './batch.ts'

const STATE = 'state.json'
const STATE_ASIDE = 'state.json.new'
/** What every build has; a folder without it is not replaced. */
const REPORT = 'report.json'
export const REPORT_FORMAT = 'apar-build'
export const RAW_FILE = 'raw.jsonl'
export const MODEL_FOLDER = 'model'
/** All that a build writes. */
const OWN_FILES: readonly string[] = [REPORT, RAW_FILE, MODEL_FOLDER, ...SPLITS, ...TEXT_FILES]
/** Of pictures and pages of a build, which may lie in it: they can be made again. */
const VIEWS: readonly string[] = ['.svg', '.png', '.html']

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

  /**
   * @param inputs paths of what is read: none may be in a folder that is replaced.
   * @throws StartupError `foreign_folder` when something else than a build is in its place, or in that of the folders
   * beside it.
   */
  async prepare(inputs: readonly string[] = []): Promise<void> {
    await refuseForeign(this.out, isReport)
    await refuseForeign(this.#old, isReport)
    await refuseForeign(this.path, isState, [STATE, STATE_ASIDE])
    const inside = inputs.find((input) => !/^\.\.|^\//.test(relative(this.out, resolve(input))))
    if (inside !== undefined) throw foreign(this.out, `it has ${inside}, which is read for it`)
    await mkdir(dirname(this.out), { recursive: true })
    // Cut between the two renames of `finish`.
    if (existsSync(this.#old) && !existsSync(this.out)) await rename(this.#old, this.out)
    await rm(this.#old, { recursive: true, force: true })
  }

  /** The last state of a build with the same key that was cut; else the folder is made anew, and it is undefined. */
  async resume<T>(key: string): Promise<T | undefined> {
    const state = await this.#readState<T>()
    if (state?.key === key && state.value !== null) return state.value
    await this.begin(key)
    return undefined
  }

  /** Makes the folder anew. The state is there from the beginning: by it the folder of a build is known. */
  async begin(key = ''): Promise<void> {
    await rm(this.path, { recursive: true, force: true })
    await mkdir(this.path, { recursive: true })
    await this.save(key, null)
  }

  async #readState<T>(): Promise<State<T | null> | undefined> {
    try {
      return JSON.parse(await readFile(join(this.path, STATE), 'utf8'))
    } catch {
      return undefined
    }
  }

  /** Written aside and renamed: there is always a whole one. */
  async save<T>(key: string, value: T): Promise<void> {
    const aside = join(this.path, STATE_ASIDE)
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

/** @throws StartupError, AparError unless the folder is not there, empty, or one of ours with nothing else in it. */
async function refuseForeign(
  folder: string,
  isOurs: (folder: string) => Promise<boolean>,
  more: readonly string[] = [],
): Promise<void> {
  const files = await readdir(folder).catch((error: NodeJS.ErrnoException): string[] => {
    if (error.code === 'ENOENT') return []
    throw new AparError('invalid_request', `${folder}: ${error.message}`, { cause: error })
  })
  if (files.length === 0) return
  const other = files.find(
    (name) => !OWN_FILES.includes(name) && !more.includes(name) && !VIEWS.includes(extname(name)),
  )
  if (!(await isOurs(folder))) throw foreign(folder, `it is not empty (${other ?? files[0]}) and not a build`)
  if (other !== undefined) throw foreign(folder, `it has ${other}, which no build writes`)
}

function foreign(folder: string, why: string): StartupError {
  return new StartupError('foreign_folder', `${folder} would be replaced, and ${why}: choose another folder`)
}

async function isReport(folder: string): Promise<boolean> {
  return hasFields(join(folder, REPORT), { format: REPORT_FORMAT })
}

async function isState(folder: string): Promise<boolean> {
  return (await readdir(folder)).includes(STATE_ASIDE) || (await hasFields(join(folder, STATE), {}))
}

async function hasFields(file: string, fields: Record<string, unknown>): Promise<boolean> {
  try {
    const value: Record<string, unknown> = JSON.parse(await readFile(file, 'utf8'))
    return Object.entries(fields).every(([name, wanted]) => value[name] === wanted)
  } catch {
    return false
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
