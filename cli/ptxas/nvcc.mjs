import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { pythonEnvironment } from '../setup/python-environment.mjs'
import { root, run } from '../setup/report.mjs'

/** Another release allocates other registers; that of requirements.lock. */
const RELEASE = '13.0'
const LOCK = join(dirname(fileURLToPath(import.meta.url)), 'requirements.lock')
const BUILD = join(root, 'native/ops/cuda/CMakeLists.txt')

export async function findNvcc() {
  const { code, output } = await run('nvcc', ['--version'])
  if (code === 0 && output.includes(`release ${RELEASE},`)) return { nvcc: 'nvcc', source: 'the PATH' }
  const made = await pythonEnvironment(LOCK, 'nvcc')
  if (!('folder' in made)) return made
  const lib = join(made.folder, 'lib')
  const python = readdirSync(lib).find((name) => name.startsWith('python'))
  return { nvcc: join(lib, python, 'site-packages/nvidia/cu13/bin/nvcc'), source: made.folder }
}

export function buildOptions(cmake = readFileSync(BUILD, 'utf8')) {
  const options = /\$<\$<COMPILE_LANGUAGE:CUDA>:(--expt[^>]*)>/.exec(cmake)?.[1]
  const architectures = /set\(APAR_CUDA_ARCHITECTURES "([^"]+)"/.exec(cmake)?.[1]
  const standard = /CUDA_STANDARD (\d+)/.exec(cmake)?.[1]
  if (!options || !architectures || !standard)
    throw new Error(
      `${BUILD} has no options, architectures or standard where they are looked for (cli/ptxas/nvcc.mjs)`,
    )
  return {
    options: [`-std=c++${standard}`, '-O3', '-DNDEBUG', ...options.trim().split(/\s+/)],
    architectures: architectures.split(';').map((each) => each.replace(/-(real|virtual)$/, '')),
  }
}
