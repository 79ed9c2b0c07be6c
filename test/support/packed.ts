import { execFile } from 'node:child_process'
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { packageRoot } from '../../gpu-node/package-root.ts'

const run = promisify(execFile)
const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm'

export interface Packed {
  /** A folder with apar-client and apar-ai-sdk as npm installs them, and links to the packages that they need. */
  readonly folder: string
  /** Of apar-ai-sdk. */
  readonly tarball: string
  remove(): void
}

/** Packs the two libraries and unpacks them into a new folder, without a network. `more`: names of further packages. */
export async function installPacked(more: readonly string[] = []): Promise<Packed> {
  const folder = mkdtempSync(join(tmpdir(), 'apar-packed-'))
  const modules = join(folder, 'node_modules')
  writeFileSync(join(folder, 'package.json'), '{"private": true}')
  for (const library of ['client', 'ai-sdk']) {
    await run(npm, ['pack', '--pack-destination', folder], { cwd: join(packageRoot, library) })
    const { name, version } = JSON.parse(readFileSync(join(packageRoot, library, 'package.json'), 'utf8'))
    const to = join(modules, name)
    mkdirSync(to, { recursive: true })
    await run('tar', ['-xzf', join(folder, `${name}-${version}.tgz`), '-C', to, '--strip-components', '1'])
  }
  for (const name of ['@ai-sdk', 'ai', 'zod', ...more])
    symlinkSync(join(packageRoot, 'node_modules', name), join(modules, name))
  const tarball = readdirSync(folder).find((name) => name.startsWith('apar-ai-sdk-')) ?? ''
  return {
    folder,
    tarball: join(folder, tarball),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  }
}
