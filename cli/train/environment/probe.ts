import { z } from 'zod'
import { UserError } from '../../explain.ts'
import { runPython } from './python.ts'

const Probe = z.object({
  /** `3.11.2` */
  version: z.string(),
  /** `linux-x86_64` */
  platform: z.string(),
  /** Whether it can make virtual environments with pip. */
  makesEnvironments: z.boolean(),
  /** Versions of installed packages; null for one that is not installed. */
  packages: z.record(z.string(), z.string().nullable()),
})
export type Probe = z.infer<typeof Probe>

/** Imports nothing that is large: torch takes seconds. */
const PROBE = `import importlib.metadata as metadata, importlib.util, json, sys, sysconfig
def version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
print(json.dumps({
    "version": "%d.%d.%d" % sys.version_info[:3],
    "platform": sysconfig.get_platform(),
    "makesEnvironments": all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")),
    "packages": {name: version(name) for name in sys.argv[1:]},
}))`

/** Asks a Python what it is, and for versions of packages. @throws UserError `python_missing` */
export async function probePython(python: string, packages: readonly string[]): Promise<Probe> {
  const { code, output, errors } = await runPython(python, ['-c', PROBE, ...packages])
  if (code === 0) return Probe.parse(JSON.parse(output))
  const reason = errors.trim().split('\n').at(-1) ?? ''
  const what = code === undefined ? `${python}: ${reason}` : `${python} cannot be used: ${reason}`
  const advice = 'install Python 3 (Debian: apt-get install python3 python3-venv), or set PYTHON to its path'
  throw new UserError('python_missing', `training runs in Python, and ${what}: ${advice}`)
}
