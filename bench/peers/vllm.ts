import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { findAllocator } from '../../cli/train/allocator.ts'
import { packageRoot } from '../../gpu-node/package-root.ts'
import { freePort } from '../peer/free-port.ts'
import { environmentFolder } from '../peer/python/folders.mjs'
import { serverSide } from './server-side.ts'
import type { Side } from './side.ts'

const MODEL = 'peer'
const KV_CACHE_GB = '2'
const MODEL_TOKENS = '2048'
/** It compiles the model when it starts. */
const START_MS = 15 * 60_000
const POLL_MS = 500
const CLOSE_GRACE_MS = 10_000
const LOG_CHARACTERS = 4000

/** vLLM's own server with its defaults, without prefix cache, on the first processors. */
export async function openVllm(checkpoint: string, threads: number): Promise<Side> {
  const environment = environmentFolder('vllm', packageRoot)
  const port = await freePort()
  const options = {
    ...{ '--model': checkpoint, '--served-model-name': MODEL, '--dtype': 'bfloat16' },
    ...{ '--host': '127.0.0.1', '--port': String(port), '--max-model-len': MODEL_TOKENS },
  }
  const flags = ['--no-enable-prefix-caching', '--disable-uvicorn-access-log']
  const args = ['-m', 'vllm.entrypoints.openai.api_server', ...Object.entries(options).flat(), ...flags]
  // As its documentation advises.
  const allocator = process.env.LD_PRELOAD || findAllocator()
  const env = {
    ...process.env,
    ...(allocator ? { LD_PRELOAD: allocator } : {}),
    // Its own Python first: what it compiles with is there.
    PATH: `${join(environment, 'bin')}:${process.env.PATH}`,
    ...{ VLLM_CPU_KVCACHE_SPACE: KV_CACHE_GB, VLLM_CPU_OMP_THREADS_BIND: `0-${threads - 1}` },
    ...{ VLLM_CACHE_ROOT: join(environment, 'cache'), HF_HUB_OFFLINE: '1' },
    ...{ VLLM_NO_USAGE_STATS: '1', DO_NOT_TRACK: '1', VLLM_LOGGING_LEVEL: 'WARNING' },
  }
  // A group of its own: its engine is another process.
  const child = spawn(join(environment, 'bin/python'), args, {
    ...{ env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] },
  })
  let log = ''
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding('utf8').on('data', (text) => {
      log = (log + text).slice(-LOG_CHARACTERS)
    })
  const endWithUs = () => signal(child, 'SIGKILL')
  process.on('exit', endWithUs)
  const close = async () => {
    await end(child)
    process.off('exit', endWithUs)
  }
  const url = `http://127.0.0.1:${port}`
  try {
    await answers(url, child, () => log)
  } catch (error) {
    await close()
    throw error
  }
  return serverSide({ name: 'vLLM', url, model: MODEL, mode: undefined, close })
}

async function answers(url: string, child: ChildProcess, log: () => string): Promise<void> {
  const until = performance.now() + START_MS
  while (performance.now() < until) {
    if (child.exitCode !== null || child.signalCode !== null) throw new Error(`vLLM ended: ${log()}`)
    const response = await fetch(`${url}/health`).catch(() => undefined)
    if (response?.ok) return
    await sleep(POLL_MS)
  }
  throw new Error(`vLLM did not start in ${START_MS / 60_000} minutes: ${log()}`)
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) {
    const exited = once(child, 'exit')
    child.kill('SIGTERM')
    await Promise.race([exited, sleep(CLOSE_GRACE_MS, undefined, { ref: false })])
  }
  signal(child, 'SIGKILL')
}

/** To all processes of its group. */
function signal({ pid }: ChildProcess, name: NodeJS.Signals): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, name)
  } catch {
    // None is left.
  }
}
