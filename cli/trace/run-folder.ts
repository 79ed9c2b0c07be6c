import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { TRACE_VERSION } from '../../shared/protocol/trace.ts'
import { UserError } from '../explain.ts'
import { type FolderLock, lockFolder } from '../lock/folder-lock.ts'
import {
  MODES,
  type Mode,
  readTrace,
  type TraceLine,
  type TraceOfQuestion,
  writeTrace,
} from './trace-file.ts'

const ENDING = '.jsonl.gz'
const SETTINGS = 'run.json'
/** Characters of an id in a name, which file systems bound to 255 bytes. */
const LONGEST = 200

/** How all answers of a folder were made; one folder has answers of one kind only. */
export const RunSettings = z.object({
  version: z.literal(TRACE_VERSION),
  dataset: z.string(),
  /** SHA-256 of the file of questions. */
  questions: z.string(),
  model: z.string(),
  /** Where it ran: the edge's address, or the engine's device and number types. */
  where: z.record(z.string(), z.union([z.string(), z.number()])),
  /** Questions that were asked at a time. */
  concurrency: z.int().min(1),
  /** SHA-256 of the answers that were forced. */
  replay: z.string().optional(),
  /** Of each request, besides its messages. */
  request: z.record(z.string(), z.unknown()),
})
export type RunSettings = z.infer<typeof RunSettings>

/** The file of a question's trace. Any id makes a name: of a long one its begin and a digest. */
export function traceName(id: string, mode: Mode): string {
  const name = encodeURIComponent(id).replaceAll('.', '%2E')
  if (name.length <= LONGEST) return `${name}.${mode}${ENDING}`
  const digest = createHash('sha256').update(id).digest('hex').slice(0, 16)
  return `${name.slice(0, 100)}-${digest}.${mode}${ENDING}`
}

/** The traces of a run, written one after the other: a run that was ended goes on with those that are missing. */
export class RunFolder {
  readonly #folder: string
  readonly #lock: FolderLock

  private constructor(folder: string, lock: FolderLock) {
    this.#folder = folder
    this.#lock = lock
  }

  /** @throws UserError `foreign_folder` for a folder with anything else, `run_in_use`. */
  static async open(folder: string, settings: RunSettings): Promise<RunFolder> {
    mkdirSync(folder, { recursive: true })
    const inUse = (by: string) => new UserError('run_in_use', `--out: ${by} is writing traces to ${folder}`)
    const lock = await lockFolder(folder, inUse, 'trace-')
    try {
      begin(folder, settings)
      return new RunFolder(folder, lock)
    } catch (error) {
      lock.release()
      throw error
    }
  }

  has(id: string, mode: Mode): boolean {
    return existsSync(join(this.#folder, traceName(id, mode)))
  }

  add(id: string, mode: Mode, lines: readonly TraceLine[]): void {
    writeTrace(join(this.#folder, traceName(id, mode)), lines)
  }

  close(): void {
    this.#lock.release()
  }
}

function begin(folder: string, settings: RunSettings): void {
  const file = join(folder, SETTINGS)
  if (existsSync(file)) {
    const others = differences(readSettings(folder), RunSettings.parse(settings))
    if (others.length === 0) return
    const what = `--out: ${folder} has traces that were made otherwise (${others.join('; ')}): choose another folder`
    throw new UserError('foreign_folder', what)
  }
  const [other] = readdirSync(folder).filter((name) => !name.endsWith('.lock'))
  if (other !== undefined)
    throw new UserError(
      'foreign_folder',
      `--out: ${folder} has ${other} and no ${SETTINGS}: choose another folder`,
    )
  writeFileSync(file, `${JSON.stringify(settings, null, 2)}\n`)
}

/** What differs, such as `request.max_tokens 40, now 41`. */
function differences(known: object, wanted: object): string[] {
  const [was, is] = [known, wanted].map((settings) => new Map(leavesOf(settings)))
  return [...new Set([...(was?.keys() ?? []), ...(is?.keys() ?? [])])]
    .filter((name) => was?.get(name) !== is?.get(name))
    .map((name) => `${name} ${was?.get(name) ?? 'none'}, now ${is?.get(name) ?? 'none'}`)
}

/** The values by their paths. */
function leavesOf(value: object, path = ''): [string, string][] {
  return Object.entries(value).flatMap(([key, each]: [string, unknown]): [string, string][] =>
    typeof each === 'object' && each !== null
      ? leavesOf(each, `${path}${key}.`)
      : [[`${path}${key}`, JSON.stringify(each)]],
  )
}

/** @throws UserError `invalid_option` for a folder without traces of this version. */
export function readSettings(folder: string): RunSettings {
  const file = join(folder, SETTINGS)
  const wrong = existsSync(file) ? `${SETTINGS} is damaged, or of another version` : `no ${SETTINGS}`
  try {
    return RunSettings.parse(JSON.parse(readFileSync(file, 'utf8')))
  } catch {
    const what = `${folder}: not a folder of apar trace, version ${TRACE_VERSION} (${wrong})`
    throw new UserError('invalid_option', what)
  }
}

/** The files of a folder, in the order of their ids: numbers by value. */
export function traceFiles(folder: string, modes: readonly Mode[] = MODES): string[] {
  const endings = modes.map((mode) => `.${mode}${ENDING}`)
  const order = new Intl.Collator('en', { numeric: true })
  return readdirSync(folder)
    .filter((name) => endings.some((ending) => name.endsWith(ending)))
    .sort(order.compare)
    .map((name) => join(folder, name))
}

/** One trace at a time. @throws AparError `invalid_request` for a damaged file. */
export function* readTraces(folder: string, modes: readonly Mode[] = MODES): Generator<TraceOfQuestion> {
  for (const file of traceFiles(folder, modes)) yield readTrace(file)
}
