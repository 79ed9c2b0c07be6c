import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'

/** Names of this machine's NVIDIA GPUs; empty where there is none, or no driver. */
export function gpuNames(): string[] {
  const { status, stdout } = spawnSync('nvidia-smi', ['--query-gpu=name', '--format=csv,noheader'], {
    encoding: 'utf8',
    timeout: 20_000,
  })
  const names = status === 0 ? stdout.trim().split('\n').filter(Boolean) : []
  return names.length > 0 || !existsSync('/dev/nvidia0') ? names : ['GPU']
}
