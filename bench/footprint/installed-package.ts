import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { writePackages } from '../../cli/setup/write-packages.mjs'
import { packageRoot } from '../../gpu-node/package-root.ts'

const run = promisify(execFile)
const NPM = process.platform === 'win32' ? 'npm.cmd' : 'npm'

export interface InstalledPackage {
  /** In which nothing but apar is installed. */
  readonly folder: string
  /** `apar` as npm has linked it. */
  readonly script: string
  remove(): void
}

/**
 * Packs what is built here, and installs it as npm would into an empty folder. Where workerd's program is not in
 * the packages, it is linked from this checkout: no network.
 */
export async function installPackage(): Promise<InstalledPackage> {
  const above = mkdtempSync(join(tmpdir(), 'apar-packed-'))
  const remove = () => rmSync(above, { recursive: true, force: true })
  try {
    await run(NPM, ['pack', '--silent', '--pack-destination', above, ...Object.values(writePackages(above))])
    const archives = readdirSync(above).filter((name) => name.endsWith('.tgz'))
    const folder = join(above, 'empty')
    mkdirSync(folder)
    const vendor = join(packageRoot, 'node_modules/@cloudflare')
    const programs = readdirSync(vendor).filter((name) => name.startsWith('workerd-'))
    const overrides = Object.fromEntries(
      programs.map((name) => [`@cloudflare/${name}`, `file:${realpathSync(join(vendor, name))}`]),
    )
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ private: true, overrides }))
    const flags = ['--offline', '--no-audit', '--no-fund']
    const paths = archives.map((name) => join(above, name))
    await run(NPM, ['install', ...flags, ...paths], { cwd: folder })
    return { folder, script: join(folder, 'node_modules/.bin/apar'), remove }
  } catch (error) {
    remove()
    throw error
  }
}

/** Bytes of all files below a folder, also of packages that are linked. */
export function bytesBelow(folder: string): number {
  return readdirSync(folder)
    .map((name) => join(folder, name))
    .reduce((sum, path) => {
      const stat = statSync(path)
      return sum + (stat.isDirectory() ? bytesBelow(path) : stat.size)
    }, 0)
}
