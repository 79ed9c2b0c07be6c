import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { ADDON, CUDA_LIBRARY } from '../../gpu-node/engine/engine-files.ts'
import { workerdPath } from '../local/workerd-path.ts'
import { gpuNames } from '../train/environment/gpu.ts'
import type { Finding } from './finding.ts'

const TIMEOUT_MS = 20_000

export function engine(path = ADDON): Finding {
  const remedy =
    'apar engine build compiles it: that needs a C++20 compiler and make (Debian: apt-get install g++ make)'
  if (!existsSync(path)) return { check: 'engine', state: 'error', found: 'not built', remedy }
  try {
    createRequire(import.meta.url)(path)
    return { check: 'engine', state: 'ok', found: 'built' }
  } catch (error) {
    const reason = error instanceof Error ? error.message.split('\n')[0] : String(error)
    return { check: 'engine', state: 'error', found: `cannot be loaded: ${reason}`, remedy }
  }
}

/** Whether a GPU is here, and whether the engine can use it. */
export function cuda(gpus: readonly string[] = gpuNames(), library = CUDA_LIBRARY): Finding {
  const check = 'CUDA'
  const built = existsSync(library)
  if (gpus.length === 0) return { check, state: 'ok', found: 'no NVIDIA GPU: the CPU decodes' }
  const names = gpus.join(', ')
  if (built) return { check, state: 'ok', found: `${names}; serve with --device cuda` }
  return {
    check,
    state: 'warning',
    found: `${names}, and the engine is built without CUDA`,
    remedy: "install NVIDIA's CUDA toolkit (nvcc), then apar engine build",
  }
}

/** The edge runs in workerd, a program that npm downloads for the platform. */
export function edgeRuntime(): Finding {
  const check = 'edge runtime'
  try {
    const { status, stdout, error } = spawnSync(workerdPath(), ['--version'], {
      encoding: 'utf8',
      timeout: TIMEOUT_MS,
    })
    if (status === 0) return { check, state: 'ok', found: stdout.trim() }
    const found = `workerd does not run here${error ? `: ${error.message}` : ''}`
    return {
      check,
      state: 'error',
      found,
      remedy: 'use Linux with glibc 2.35 or newer, or macOS 13.5 or newer',
    }
  } catch {
    return { check, state: 'error', found: 'workerd is missing', remedy: 'npm install' }
  }
}
