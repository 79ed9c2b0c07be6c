import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { packageRoot } from '../../../gpu-node/package-root.ts'

/** The trainer's Python sources: `python -m apar_train` runs with this folder on its path. */
export const TRAINER_FOLDER = join(packageRoot, 'training/torch')
/** Every package with its version, as pip takes it. */
export const LOCK_FILE = join(TRAINER_FOLDER, 'requirements.lock')

type Version = readonly number[]

/** A package that the trainer imports, and the versions that it can work with. */
export interface NeededPackage {
  readonly name: string
  readonly minimum: string
  /** The first version that is too new. */
  readonly below: string | undefined
}

export interface TrainingPackages {
  /** The oldest Python. */
  readonly python: string
  readonly needed: readonly NeededPackage[]
  /** Of the lock file. */
  readonly lockHash: string
}

const PYTHON_LINE = /^requires-python = ">=([\d.]+)"$/m
const PACKAGE_LINE = /^ {2}"([\w-]+)>=([\d.]+)(?:,<([\d.]+))?",$/gm

/** What training/torch/pyproject.toml and requirements.lock ask for. */
export function trainingPackages(): TrainingPackages {
  const project = readFileSync(join(TRAINER_FOLDER, 'pyproject.toml'), 'utf8')
  const [, python] = PYTHON_LINE.exec(project) ?? []
  const needed = [...project.matchAll(PACKAGE_LINE)].map(([, name = '', minimum = '', below]) => ({
    name,
    minimum,
    below,
  }))
  if (python === undefined || needed.length === 0) throw new Error('pyproject.toml has another form')
  return { python, needed, lockHash: createHash('sha256').update(readFileSync(LOCK_FILE)).digest('hex') }
}

/** Of `found`, what a package lacks: `needs >= 2.6`; undefined for one that will do. */
export function problemOf({ minimum, below }: NeededPackage, found: string | null): string | undefined {
  const wanted = below === undefined ? `${minimum} or newer` : `${minimum} or newer, and older than ${below}`
  if (found === null) return `is missing (${wanted})`
  const fits = !isOlder(found, minimum) && (below === undefined || isOlder(found, below))
  return fits ? undefined : `${found} is not ${wanted}`
}

/** Compares release numbers; what follows them (`2.6.0+cpu`, `2.6.0rc1`) does not count. */
export function isOlder(version: string, than: string): boolean {
  const [left, right] = [parts(version), parts(than)]
  for (let index = 0; index < Math.max(left.length, right.length); index++) {
    const difference = (left[index] ?? 0) - (right[index] ?? 0)
    if (difference !== 0) return difference < 0
  }
  return false
}

function parts(version: string): Version {
  return (/^\d+(?:\.\d+)*/.exec(version)?.[0] ?? '0').split('.').map(Number)
}
