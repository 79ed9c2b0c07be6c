import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { llamaTensors } from '../../gpu-node/checkpoint/llama-tensors.ts'
import { PLAIN_LLAMA, plainRope } from '../../gpu-node/checkpoint/plain-llama.ts'
import type { ModelShape } from '../../gpu-node/engine/engine-config.ts'
import { writeModel } from '../engine/random-llama.ts'
import { PIECES } from '../engine/vocabulary.ts'
import { withServe } from './serve-first-token.ts'

export const SEVEN_B = '7B-shaped, bf16, 13 GB in shards'

/** Llama-2-7B but for the vocabulary. */
const SHAPE: ModelShape = {
  vocabSize: PIECES.length,
  hiddenSize: 4096,
  intermediateSize: 11008,
  numLayers: 32,
  numHeads: 32,
  numKvHeads: 32,
  headDim: 128,
  contextTokens: 4096,
  rmsNormEps: 1e-5,
  rope: plainRope(10_000, 128),
  ...PLAIN_LLAMA,
  tieWordEmbeddings: false,
}
const SHARDS = 3
const BYTES_PER_WEIGHT = 2
const SAMPLE_MS = 50

export interface LoadMemory {
  /** Most anonymous memory of the gpu node: pages of the mapped files are the system's cache. */
  readonly peakBytes: number
  /** Of the weights as the engine holds them. */
  readonly weightBytes: number
  readonly ms: number
}

export async function sevenBMemory(): Promise<LoadMemory> {
  const folder = join(tmpdir(), 'apar-bench', 'random-7B')
  if (!existsSync(join(folder, 'config.json'))) {
    const partial = `${folder}.${process.pid}`
    mkdirSync(partial, { recursive: true })
    writeModel(partial, SHAPE, SHARDS)
    rmSync(folder, { recursive: true, force: true })
    renameSync(partial, folder)
  }
  const begun = performance.now()
  let peakBytes = 0
  const stop = new AbortController()
  const args = ['--model', folder, '--dtype', 'bf16']
  const sampling = (async () => {
    while (!stop.signal.aborted) {
      peakBytes = Math.max(peakBytes, ...gpuNodesOf(process.pid).map(anonymousBytes))
      await sleep(SAMPLE_MS)
    }
  })()
  try {
    const ms = await withServe(args, async () => performance.now() - begun)
    return { peakBytes, weightBytes: weightBytes(), ms }
  } finally {
    stop.abort()
    await sampling
  }
}

function weightBytes(): number {
  const elements = [...llamaTensors(SHAPE).values()].map((shape) => shape.reduce((a, b) => a * b, 1))
  return elements.reduce((sum, each) => sum + BYTES_PER_WEIGHT * each, 0)
}

/** The gpu nodes among the descendants of a process (Linux). */
function gpuNodesOf(ancestor: number): number[] {
  const parents = new Map<number, number>()
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry)
    if (Number.isInteger(pid))
      parents.set(pid, Number(/^PPid:\s+(\d+)/m.exec(read(`/proc/${pid}/status`))?.[1]))
  }
  const descends = (pid: number | undefined): boolean =>
    pid !== undefined && pid > 0 && (pid === ancestor || descends(parents.get(pid)))
  return [...parents.keys()].filter(
    (pid) => descends(pid) && read(`/proc/${pid}/cmdline`).split('\0').includes('gpu-node'),
  )
}

function anonymousBytes(pid: number): number {
  return 1024 * Number(/^RssAnon:\s+(\d+)/m.exec(read(`/proc/${pid}/status`))?.[1] ?? 0)
}

/** '' for a process that has ended. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
