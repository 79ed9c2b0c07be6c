import { existsSync } from 'node:fs'
import { mkdir, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { UserError } from '../../explain.ts'
import { type FolderLock, lockFolder } from '../../lock/folder-lock.ts'
import { checkSpace, noSpace } from '../../models/disk-space.ts'
import { withPullFolder } from '../../models/pull-folder.ts'
import { cancelledBySignal } from '../cancelled.ts'
import { gpuNames } from './gpu.ts'
import { LOCK_FILE } from './packages.ts'
import type { EnvironmentProgress } from './progress.ts'
import { pipReason, runPython } from './python.ts'

export interface MakeOptions {
  /** The Python that the environment is made with. */
  readonly base: string
  readonly progress: EnvironmentProgress
  /** Default: {@link LOCK_FILE}. */
  readonly lockFile?: string
  /** Whether torch should have CUDA. Default: whether this machine has a GPU. */
  readonly hasGpu?: boolean
}

const GB = 1e9
/** With the wheels, which pip has beside what it installs. */
const BYTES = { cpu: 2 * GB, cuda: 12 * GB }
const WAIT_MS = 1_000
/** A download of this size is worth a line. */
const LONG_MB = 20
const PIP = ['-m', 'pip', '--disable-pip-version-check', '--no-input']
const CPU_BUILD = 'docs/training.md says how pip gets the build for CPUs'

/**
 * Makes a virtual environment with the locked packages. It appears under its name when it is whole; of several processes
 * one makes it, and the others wait. A signal ends it, and leaves nothing behind.
 * @throws UserError `python_missing`, `package_failed`, `disk_full`, `cancelled`
 */
export async function makeEnvironment(folder: string, options: MakeOptions): Promise<void> {
  const { progress, hasGpu = gpuNames().length > 0 } = options
  const cache = dirname(folder)
  await mkdir(cache, { recursive: true })
  progress.start(`making the Python environment for training in ${folder} (once)`)
  try {
    const torch = await cancelledBySignal('making the environment', async (signal) => {
      const lock = await waitForLock(cache, progress, signal)
      try {
        // Another process may just have made it.
        if (existsSync(join(folder, 'bin/python'))) return undefined
        await checkSpace(cache, hasGpu ? BYTES.cuda : BYTES.cpu)
        return await withPullFolder(cache, async (aside) => {
          const found = await install(join(aside, 'environment'), aside, { ...options, hasGpu, signal })
          await rm(folder, { recursive: true, force: true })
          await rename(join(aside, 'environment'), folder)
          return found
        })
      } finally {
        lock.release()
      }
    })
    progress.done(torch ? `made ${folder}: torch ${torch.version}` : `${folder} is made`)
    if (hasGpu && torch && !torch.cuda)
      progress.update(`torch has no CUDA: ${CPU_BUILD}, and undoes it`, true)
  } catch (error) {
    progress.failed()
    throw noSpace(error, folder) ?? error
  }
}

async function waitForLock(
  cache: string,
  progress: EnvironmentProgress,
  signal: AbortSignal,
): Promise<FolderLock> {
  for (let told = false; ; told = true) {
    let holder = ''
    try {
      return await lockFolder(cache, (by) => {
        holder = by
        return new UserError('state_taken', `the environment is being made by ${by}`)
      })
    } catch (error) {
      if (!(error instanceof UserError && error.code === 'state_taken')) throw error
      if (!told) progress.update(`waiting for ${holder}, which makes an environment`, true)
      await sleep(WAIT_MS, undefined, { signal }).catch(() => signal.throwIfAborted())
    }
  }
}

interface InstallOptions extends MakeOptions {
  readonly hasGpu: boolean
  readonly signal: AbortSignal
}

const Torch = z.object({ version: z.string(), cuda: z.boolean() })
const ASK_TORCH = `import json, peft, torch, transformers
print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda is not None}))`

/** @returns what torch it has, which shows that the packages can be imported. */
async function install(
  folder: string,
  temporary: string,
  { base, progress, lockFile = LOCK_FILE, hasGpu, signal }: InstallOptions,
): Promise<z.infer<typeof Torch>> {
  // pip would unpack in /tmp, which may be in memory.
  const running = { signal, env: { TMPDIR: temporary, PIP_REQUIRE_VIRTUALENV: '' } }
  const made = await runPython(base, ['-m', 'venv', folder], running)
  if (made.code !== 0) throw noEnvironment(base, `${made.output}\n${made.errors}`)
  const python = join(folder, 'bin/python')
  if (!hasGpu) await warnOfCuda(python, lockFile, progress, running)
  const onLine = (line: string) => tellOf(line.trim(), progress)
  // Only wheels: pip would run the build of a source package.
  const args = [
    'install',
    '--progress-bar',
    'off',
    '--only-binary',
    ':all:',
    '--retries',
    '2',
    '-r',
    lockFile,
  ]
  const installed = await runPython(python, [...PIP, ...args], { ...running, onLine })
  if (installed.code !== 0) {
    const reason = pipReason(installed.errors)
    const advice = 'check the network and the settings of pip'
    throw new UserError(
      'package_failed',
      `pip could not install the packages for training: ${reason}: ${advice}`,
    )
  }
  progress.update('trying torch', true)
  const tried = await runPython(python, ['-c', ASK_TORCH], { ...running, env: {} })
  if (tried.code === 0) return Torch.parse(JSON.parse(tried.output))
  const reason = tried.errors.trim().split('\n').at(-1) ?? ''
  throw new UserError(
    'package_failed',
    `the packages for training are installed but cannot be imported: ${reason}`,
  )
}

function noEnvironment(base: string, text: string): UserError {
  if (/ensurepip|No module named '?venv/.test(text)) {
    const advice = 'install them (Debian: apt-get install python3-venv), or set PYTHON to another Python'
    return new UserError('python_missing', `${base} has no venv with pip: ${advice}`)
  }
  const reason = text.trim().split('\n').at(-1) ?? ''
  return new UserError('python_missing', `${base} cannot make a virtual environment: ${reason}`)
}

const PipReport = z.object({
  install: z.array(z.object({ metadata: z.object({ requires_dist: z.array(z.string()).default([]) }) })),
})

/** Says, before gigabytes come, that pip would install a torch with CUDA on a machine without a GPU. */
async function warnOfCuda(
  python: string,
  lockFile: string,
  progress: EnvironmentProgress,
  running: { signal: AbortSignal; env: Record<string, string> },
): Promise<void> {
  const ask = ['install', '--dry-run', '--quiet', '--no-deps', '--ignore-installed', '--report', '-']
  const { code, output } = await runPython(python, [...PIP, ...ask, '-c', lockFile, 'torch'], running)
  const report = code === 0 ? PipReport.safeParse(JSON.parse(output)).data : undefined
  const needs = report?.install.flatMap(({ metadata }) => metadata.requires_dist) ?? []
  if (!needs.some((need) => /^(nvidia|cuda)-/.test(need) && !/extra ==/.test(need))) return
  progress.update(
    `there is no GPU here, and pip's torch is the one for GPUs (several GB): ${CPU_BUILD}`,
    true,
  )
}

/** Of what pip writes, the steps; large downloads are told also where each takes a line. */
function tellOf(line: string, progress: EnvironmentProgress): void {
  if (!/^(Collecting|Downloading|Using cached|Installing) /.test(line)) return
  const [, size] = /^Downloading .* \(([\d.]+) MB\)$/.exec(line) ?? []
  const text = line.replace(/^(Installing collected packages): .*$/, '$1').replace(/-cp\d.*\.whl/, '')
  progress.update(text, Number(size ?? 0) >= LONG_MB || line.startsWith('Installing'))
}
