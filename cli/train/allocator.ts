import { spawnSync } from 'node:child_process'
import { gpuNames } from './environment/gpu.ts'
import type { Settings } from './settings.ts'

/** Best first: what glibc's is replaced by. */
const LIBRARIES = ['libtcmalloc_minimal.so.4', 'libtcmalloc.so.4', 'libjemalloc.so.2'] as const

const ALLOCATOR_HINT =
  'training on this CPU is faster, and takes less memory, with tcmalloc, which is not installed (Debian: apt-get install libtcmalloc-minimal4)'

/** For a run with these settings: none on a GPU, or where the user preloads something. */
export function allocatorFor({ device }: Settings): { path?: string; hint?: string } {
  const onCpu = typeof device === 'string' ? device.startsWith('cpu') : gpuNames().length === 0
  if (!onCpu || process.env.LD_PRELOAD || process.platform !== 'linux') return {}
  const path = findAllocator()
  return path === undefined ? { hint: ALLOCATOR_HINT } : { path }
}

/**
 * A memory allocator for the trainer, as `LD_PRELOAD` takes it; undefined where none is installed. Packs differ in
 * length, so that tensors of thousands of sizes are made and freed: glibc keeps them in lists that it walks, in the one
 * thread that hands out work (docs/training.md has figures).
 */
export function findAllocator(listed = listLibraries()): string | undefined {
  for (const library of LIBRARIES) {
    const line = listed.find((text) => text.trim().startsWith(`${library} `))
    const path = line?.split('=> ')[1]?.trim()
    if (path) return path
  }
  return undefined
}

/** Lines of `ldconfig -p`: "NAME (KIND) => PATH", those of this machine's own kind first. */
function listLibraries(): string[] {
  const { stdout } = spawnSync('/sbin/ldconfig', ['-p'], { encoding: 'utf8' })
  return stdout?.split('\n') ?? []
}
