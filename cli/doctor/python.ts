import { UserError } from '../explain.ts'
import { locatePython } from '../train/environment/environment.ts'
import { isOlder, trainingPackages } from '../train/environment/packages.ts'
import { type Probe, probePython } from '../train/environment/probe.ts'
import type { Finding } from './finding.ts'

/** Python trains, and downloads models that are Python packages. */
export async function python(base = process.env.PYTHON || 'python3'): Promise<Finding> {
  const check = 'Python'
  const oldest = trainingPackages().python
  let probe: Probe
  try {
    probe = await probePython(base, ['pip'])
  } catch (error) {
    if (!(error instanceof UserError)) throw error
    const remedy = `install Python ${oldest} or newer: apar train and some downloads of models need it`
    return { check, state: 'warning', found: `${base} is missing`, remedy }
  }
  const { version } = probe
  const missing = [...(probe.packages.pip ? [] : ['pip']), ...(probe.makesEnvironments ? [] : ['venv'])]
  if (missing.length > 0) {
    const packages = missing.map((name) => `python3-${name}`).join(' ')
    const found = `${version} without ${missing.join(' and ')}`
    return { check, state: 'warning', found, remedy: `install them (Debian: apt-get install ${packages})` }
  }
  if (!isOlder(version, oldest)) return { check, state: 'ok', found: version }
  const remedy = `install Python ${oldest} or newer, and set PYTHON to its path: apar train needs it`
  return { check, state: 'warning', found: version, remedy }
}

/** Whether `apar train` can begin at once. */
export async function training(): Promise<Finding> {
  const check = 'training'
  try {
    const { python: path, isHere } = await locatePython({})
    if (isHere) return { check, state: 'ok', found: path }
    const found = 'the first apar train downloads its packages (200 MB without CUDA)'
    return { check, state: 'ok', found }
  } catch (error) {
    if (!(error instanceof UserError)) throw error
    const remedy = 'docs/training.md, "The Python environment", says what it needs'
    return { check, state: 'warning', found: error.message, remedy }
  }
}
