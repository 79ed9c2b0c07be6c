import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { packageRoot } from '../package-root.ts'

const BUILT = join(packageRoot, 'native/build')
const PREBUILT = prebuiltFolder()

/** The engine: one that was built here, else that of the prebuilt package; here, too, where there is neither. */
export const ADDON = engineFile('apar.node')
/** The CUDA backend, which the engine opens where it lies beside it. */
export const CUDA_LIBRARY = join(dirname(ADDON), 'libapar_cuda.so')
/** The program that compiles grammars; it is built with the engine. */
export const GRAMMAR_COMPILER = join(dirname(ADDON), 'apar_compile_grammar')
/** Of the grammar engine's library, which cli/setup/grammar-engine.mjs gets; complete where it has the file `complete`. */
export const GRAMMAR_FOLDER = grammarFolder()

function engineFile(name: string): string {
  const built = join(BUILT, 'release', name)
  return PREBUILT === undefined || existsSync(built) ? built : join(PREBUILT, name)
}

function grammarFolder(): string {
  const fetched = join(BUILT, 'grammar')
  return PREBUILT === undefined || existsSync(join(fetched, 'complete')) ? fetched : join(PREBUILT, 'grammar')
}

/** Where npm has installed the engine for this platform, an optional dependency of the package `apar`. */
function prebuiltFolder(): string | undefined {
  const name = `apar-engine-${process.platform}-${process.arch}/package.json`
  try {
    return dirname(createRequire(join(packageRoot, 'package.json')).resolve(name))
  } catch {
    return undefined
  }
}
