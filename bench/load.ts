import { closeSync, openSync, readSync, statSync } from 'node:fs'
import { isKnownAndMissing, resolveModel } from '../cli/models/resolve.ts'
import { serveFirstToken } from './load/serve-first-token.ts'
import { SEVEN_B, sevenBMemory } from './load/seven-b.ts'
import { LineProcess } from './peer/line-process.ts'
import { HOW_TO_BUILD, PEER_DRIVER, peerIsBuilt } from './peer/peer.ts'
import { type Bench, type BenchCase, commit, machine, SampleFile } from './report.ts'

const MODELS = [
  { name: 'smollm2-135m-instruct', goal: 1500 },
  { name: 'demo', goal: null },
] as const
const REPETITIONS = 9
const QUICK_REPETITIONS = 3
const THREADS = 2
/** About as many tokens as the chat of the other side. */
const PROMPT = Array.from({ length: 32 }, (_, index) => 100 + index)

/**
 * From the start of `apar serve` to the first token of an answer, warm cache, beside llama.cpp's time to load the same
 * file and compute a prompt of the same length; and the memory that loading a large model takes beside its weights.
 */
export const load: Bench = async ({ quick }) => {
  const file = new SampleFile('load')
  const cases: BenchCase[] = []
  for (const { name, goal } of MODELS) {
    if (isKnownAndMissing(name)) {
      console.error(`load: ${name} is not measured: it is not here (apar model pull ${name})`)
      continue
    }
    const { path } = resolveModel(name)
    const withPeer = path.endsWith('.gguf') && peerIsBuilt()
    if (path.endsWith('.gguf') && !withPeer) console.error(`load: no peer; to build it: ${HOW_TO_BUILD}`)
    const ours: number[] = []
    const theirs: number[] = []
    const floors: number[] = []
    for (let turn = 0; turn < (quick ? QUICK_REPETITIONS : REPETITIONS); turn++) {
      const sample = {
        ours: await serveFirstToken(path),
        ...(withPeer && { theirs: await peerFirstToken(path) }),
        ...(path.endsWith('.gguf') && { floor: readMs(path) }),
      }
      file.add({ bench: 'load', model: name, turn, ...sample })
      ours.push(sample.ours)
      if (sample.theirs !== undefined) theirs.push(sample.theirs)
      if (sample.floor !== undefined) floors.push(sample.floor)
    }
    const value = median(ours)
    cases.push({
      case: `${name}: start of serve to first token`,
      value: Math.round(value),
      unit: 'ms',
      better: 'lower',
      goal,
      low: Math.round(Math.min(...ours)),
      high: Math.round(Math.max(...ours)),
      ...(theirs.length > 0 && { peer: Math.round(median(theirs)), ratio: value / median(theirs) }),
      ...(floors.length > 0 && { floor: Math.round(median(floors)), ofFloor: value / median(floors) }),
    })
    console.error(`load: ${name}: ${Math.round(value)} ms`)
  }
  if (!quick) {
    const sample = await sevenBMemory()
    file.add({ bench: 'load', model: SEVEN_B, ...sample })
    const beside = (sample.peakBytes - sample.weightBytes) / 2 ** 20
    const row = { unit: 'MiB', better: 'lower', goal: 1024 } as const
    cases.push({ case: `${SEVEN_B}: peak memory beside the weights`, value: Math.round(beside), ...row })
    cases.push({
      ...row,
      case: `${SEVEN_B}: start to ready`,
      value: Math.round(sample.ms),
      unit: 'ms',
      goal: null,
    })
  }
  return { bench: 'load', commit: commit(), machine: machine(), samples: file.path, cases }
}

/** llama.cpp in a process of its own: load, then compute a prompt up to its first token. */
async function peerFirstToken(path: string): Promise<number> {
  const begun = performance.now()
  const peer = new LineProcess(PEER_DRIVER, [String(THREADS)])
  try {
    await peer.ask('load', path, 4096, 1, 'f16')
    await peer.ask('prefill', ...PROMPT)
    return performance.now() - begun
  } finally {
    await peer.close()
  }
}

/** The time in which the file can be read, from the cache of the system: no loader is faster. */
function readMs(path: string): number {
  const buffer = Buffer.alloc(1 << 20)
  const file = openSync(path, 'r')
  const begun = performance.now()
  try {
    for (let left = statSync(path).size; left > 0; ) left -= readSync(file, buffer)
  } finally {
    closeSync(file)
  }
  return performance.now() - begun
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}
