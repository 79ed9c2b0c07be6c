import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { info, root, run } from './report.mjs'

const LOCK = join(root, 'native/grammar/requirements.lock')
const FOLDER = join(root, 'native/build/grammar')
/** Written last: the hash of the lock file that the folder is of. */
const COMPLETE = join(FOLDER, 'complete')
/** The platform of the wheels, by `process.arch`. They hold no Python code that is run: any version's will do. */
const PLATFORMS = { x64: 'manylinux_2_28_x86_64', arm64: 'manylinux_2_28_aarch64' }
const WHEELS_OF = ['--implementation', 'cp', '--python-version', '3.11', '--abi', 'cp311']
const LIBRARY = /(^|\/)(libtvm_ffi\.so|libxgrammar_bindings\.so)$/
/** What must go with the libraries where they are passed on. */
const LICENCE = /^([^/]+)-[^/]+\.dist-info\/.*(LICENSE|NOTICE)[^/]*$/

/**
 * Gets the libraries that structured output needs out of two Python packages: pip downloads the wheels and checks their
 * hashes; nothing of them is installed. Where that is not possible, apar works without structured output.
 * `licences`: gets them again where their licences are missing, which older versions of this script left out.
 */
export async function getGrammarEngine(options) {
  const lock = createHash('sha256').update(readFileSync(LOCK)).digest('hex')
  const current = existsSync(COMPLETE) && readFileSync(COMPLETE, 'utf8') === lock
  if (current && (!options.licences || readdirSync(FOLDER).some((file) => file.endsWith('.txt')))) return
  if (!current) rmSync(FOLDER, { recursive: true, force: true })
  const platform = process.platform === 'linux' ? PLATFORMS[process.arch] : undefined
  const missing =
    platform === undefined ? 'its grammar engine has no build for this system' : await get(platform)
  if (missing === undefined) writeFileSync(COMPLETE, lock)
  else info(`structured output is left out: ${missing}`, options)
}

/** Returns why it is not possible. */
async function get(platform) {
  mkdirSync(FOLDER, { recursive: true })
  const wheels = mkdtempSync(join(FOLDER, 'wheels-'))
  try {
    const python = process.env.PYTHON || 'python3'
    const pip = ['-m', 'pip', '--disable-pip-version-check', '--no-input', 'download', '--quiet', '--no-deps']
    const of = ['--only-binary', ':all:', ...WHEELS_OF, '--platform', platform, '--require-hashes']
    const { code, output } = await run(python, [...pip, ...of, '--retries', '2', '-d', wheels, '-r', LOCK])
    if (code === 127 || /No module named pip/.test(output))
      return 'python3 with pip is missing (Debian: apt-get install python3-pip)'
    if (code !== 0) return `pip: ${output.trim().split('\n').at(-1)}`
    const { unzipSync } = await import('fflate')
    for (const wheel of readdirSync(wheels)) {
      const filter = ({ name }) => LIBRARY.test(name) || LICENCE.test(name)
      const files = unzipSync(readFileSync(join(wheels, wheel)), { filter })
      for (const [name, content] of Object.entries(files)) {
        const file = name.replace(/.*\//, '')
        const [, of] = LICENCE.exec(name) ?? []
        writeFileSync(join(FOLDER, of === undefined ? file : `${of}-${file}.txt`), content)
      }
    }
    return undefined
  } finally {
    rmSync(wheels, { recursive: true, force: true })
  }
}
