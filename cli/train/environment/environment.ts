import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { UserError } from '../../explain.ts'
import { ownCache } from '../../models/hub/hub-settings.ts'
import { makeEnvironment } from './make-environment.ts'
import { isOlder, LOCK_FILE, problemOf, type TrainingPackages, trainingPackages } from './packages.ts'
import { type Probe, probePython } from './probe.ts'
import type { EnvironmentProgress } from './progress.ts'

export interface EnvironmentOptions {
  /** The user's own Python with all packages. Default: the variable APAR_PYTHON, else an environment of apar's. */
  readonly python?: string | undefined
  /** What makes apar's environment. Default: the variable PYTHON, else `python3`. */
  readonly base?: string | undefined
  /** Default: {@link environmentCache}. */
  readonly cache?: string | undefined
  readonly progress: EnvironmentProgress
}

/** Where apar keeps its environments, one for each lock file and Python. */
export function environmentCache(): string {
  return join(ownCache(), '../training')
}

/**
 * The Python that trains: the user's own if it is named, else that of an environment in apar's cache, which is made
 * first where it is missing.
 * @throws UserError `python_missing`, `python_packages`, `package_failed`, `disk_full`, `cancelled`
 */
export async function trainingPython(options: EnvironmentOptions): Promise<string> {
  const { python, folder, base, isHere } = await locatePython(options)
  if (!isHere) await makeEnvironment(folder, { base, progress: options.progress })
  return python
}

/** Where that Python is, or would be. Makes nothing. */
export async function locatePython(options: Omit<EnvironmentOptions, 'progress'>): Promise<Located> {
  const own = options.python ?? (process.env.APAR_PYTHON || undefined)
  const packages = trainingPackages()
  if (own !== undefined) {
    return { python: await checkedPython(own, packages), folder: '', base: own, isHere: true }
  }
  const { folder, base } = await environmentOf(packages, options)
  const python = join(folder, 'bin/python')
  // Not there either when the Python that it links to has gone.
  return { python, folder, base, isHere: existsSync(python) }
}

interface Located {
  readonly python: string
  readonly folder: string
  readonly base: string
  readonly isHere: boolean
}

async function environmentOf(
  packages: TrainingPackages,
  {
    base = process.env.PYTHON || 'python3',
    cache = environmentCache(),
  }: Omit<EnvironmentOptions, 'progress'>,
): Promise<{ folder: string; base: string }> {
  const probe = await probePython(base, [])
  checkVersion(base, probe, packages)
  const [minor] = /^\d+\.\d+/.exec(probe.version) ?? []
  const name = `${packages.lockHash.slice(0, 12)}-python${minor}-${probe.platform}`
  return { folder: join(cache, name), base }
}

async function checkedPython(python: string, packages: TrainingPackages): Promise<string> {
  const names = packages.needed.map(({ name }) => name)
  const probe = await probePython(python, names)
  checkVersion(python, probe, packages)
  const problems = packages.needed.flatMap((needed) => {
    const problem = problemOf(needed, probe.packages[needed.name] ?? null)
    return problem === undefined ? [] : [`${needed.name} ${problem}`]
  })
  if (problems.length === 0) return python
  const advice = `install them (${python} -m pip install -r ${LOCK_FILE}), or name no Python for apar's own environment`
  throw new UserError('python_packages', `${python} cannot train: ${problems.join('; ')}: ${advice}`)
}

function checkVersion(python: string, { version }: Probe, { python: oldest }: TrainingPackages): void {
  if (!isOlder(version, oldest)) return
  throw new UserError(
    'python_missing',
    `training needs Python ${oldest} or newer, and ${python} is ${version}: set PYTHON to the path of a newer one`,
  )
}
