import { createRequire } from 'node:module'
import { join } from 'node:path'
import { packageRoot } from '../../gpu-node/package-root.ts'

/** The packages with workerd's program, by `process.platform` and `process.arch`. */
const PACKAGES: Readonly<Record<string, string>> = {
  'darwin arm64': '@cloudflare/workerd-darwin-arm64',
  'darwin x64': '@cloudflare/workerd-darwin-64',
  'linux arm64': '@cloudflare/workerd-linux-arm64',
  'linux x64': '@cloudflare/workerd-linux-64',
  'win32 x64': '@cloudflare/workerd-windows-64',
}

/**
 * Where workerd's program lies. The installed package depends on packages with nothing but the program, not on `workerd`,
 * which adds 4.6 MB that are not used here (docs/adr/0070); on Linux on one of its own, without symbols
 * (docs/adr/0079).
 * @throws Error when the package is missing.
 */
export function workerdPath(): string {
  const platform = `${process.platform} ${process.arch}`
  const name = PACKAGES[platform]
  if (name === undefined) throw new Error(`workerd has no build for ${platform}`)
  const program = process.platform === 'win32' ? 'workerd.exe' : 'workerd'
  const { resolve } = createRequire(join(packageRoot, 'package.json'))
  try {
    return resolve(`apar-workerd-${process.platform}-${process.arch}/bin/workerd`)
  } catch {
    return resolve(`${name}/bin/${program}`)
  }
}
