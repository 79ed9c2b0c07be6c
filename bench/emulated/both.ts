import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { answer, difference, type Run } from './answers.ts'
import type { Job } from './jobs.ts'

/** The CUDA backend on a device that the host emulates (native/ops/cuda/emulator). */
const LIBRARY = 'native/build/release/on_host/libapar_cuda.so'

/**
 * `device: cuda` is the emulated device in this process from now on. `root`: the package's folder.
 * @throws Error when it was not built
 */
export function emulateCuda(root: string): void {
  const library = join(root, LIBRARY)
  if (!existsSync(library))
    throw new Error(`${LIBRARY} is missing: node cli/setup.mjs --tests builds it where doctest is installed`)
  process.env.APAR_CUDA_LIBRARY = library
}

/** @throws Error when the emulated device says another token than the CPU */
export async function sameOnBoth(job: Job): Promise<{ readonly cpu: Run; readonly cuda: Run }> {
  const cpu = await answer(job.config, job.requests)
  const cuda = await answer({ ...job.config, device: 'cuda' }, job.requests)
  for (const [index, expected] of cpu.answers.entries()) {
    const found = cuda.answers[index]
    const apart = found === undefined ? 'there is none' : difference(expected, found)
    if (apart !== undefined) throw new Error(`${job.name}: answer ${index}: ${apart}`)
  }
  return { cpu, cuda }
}
