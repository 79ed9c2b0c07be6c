import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { StartupError } from '../../gpu-node/startup-error.ts'
import { type CheckpointFile, checkpointFiles, type Span } from './fuzz/checkpoint-files.ts'
import { checkpointFolders } from './fuzz/checkpoint-folders.ts'
import { Counts } from './fuzz/counts.ts'
import { count, never, type Scenario } from './scenario.ts'

/** Far above what a file of a few kB takes, also on a machine that is busy with other things. */
const HANG_MS = 10_000
const MEMORY_MIB = 512
/** Linux's file system in memory: a disk takes longer to write a file than the parsers to read it. */
const MEMORY = '/dev/shm'
const MESSAGE_CHARS = 4096
const HOLDS_TENSORS = /\.(safetensors|gguf|pt)$/

/** Reads mutated files of checkpoints. Each must be accepted or refused with a sentence that names the file. */
export const checkpoints: Scenario = async ({ size, seed, log, record }) => {
  const files = [...checkpointFiles(), ...checkpointFolders()]
  const folder = mkdtempSync(join(existsSync(MEMORY) ? MEMORY : tmpdir(), 'apar-fuzz-'))
  const inputs = new Counts()
  const accepted = new Counts()
  const failures: string[] = []
  let slowestMs = 0
  const before = process.memoryUsage().rss
  try {
    const paths = files.map((file, index) => written(file, join(folder, String(index))))
    for (let input = 0; input < size; input++) {
      const file = files[input % files.length]
      if (!file) break
      // Each input has a seed of its own, so that one can be run again without those before it.
      const path = paths[input % files.length] ?? ''
      writeFileSync(path, file.mutated(seed + 7919 * input))
      inputs.add(file.name, 1)
      const begun = performance.now()
      const { failure, isAccepted } = readMutated(file, path)
      const ms = performance.now() - begun
      const which = `${file.name}, seed ${seed}, input ${input}`
      if (ms > HANG_MS) log(`${which}: took ${Math.round(ms)} ms`)
      slowestMs = Math.max(slowestMs, ms)
      if (isAccepted) accepted.add(file.name, 1)
      if (failure !== undefined) {
        failures.push(`${which}: ${failure}`)
        log(failures.at(-1) ?? '')
      }
      if (input % 100_000 === 99_999) log(`${input + 1} files`)
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
  const peakMiB = Math.max(0, process.resourceUsage().maxRSS * 1024 - before) / 2 ** 20
  record({ inputs, accepted, failures, slowestMs, peakMiB })
  return [
    never('mutated files of checkpoints: neither read nor refused with a sentence', failures.length, 'files'),
    never(`mutated files of checkpoints: slower than ${HANG_MS} ms`, slowestMs > HANG_MS ? 1 : 0, 'files'),
    { case: 'growth of memory', value: Math.round(peakMiB), unit: 'MiB', better: 'lower', goal: MEMORY_MIB },
    count('slowest', slowestMs, 'ms'),
    ...[...inputs].map(([name, value]) => count(name, value, 'files')),
    ...[...accepted].map(([name, value]) => count(`${name}: read`, value, 'files')),
    count('files', inputs.total, 'files'),
  ]
}

/** Writes the valid file and what else its reader needs into a folder, and reads it. */
function written({ name, file, others = {}, valid, read }: CheckpointFile, folder: string): string {
  for (const [other, content] of Object.entries({ ...others, [file]: valid })) {
    mkdirSync(dirname(join(folder, other)), { recursive: true })
    writeFileSync(join(folder, other), content)
  }
  const path = join(folder, file)
  const spans = read(path)
  if (HOLDS_TENSORS.test(file) && spans.length === 0)
    throw new Error(`${name}: the valid file has no tensors`)
  return path
}

function readMutated(file: CheckpointFile, path: string): { failure?: string; isAccepted: boolean } {
  let spans: Span[]
  try {
    spans = file.read(path)
  } catch (error) {
    const failure = wrongRefusal(error, file.others ? dirname(path) : path)
    return failure === undefined ? { isAccepted: false } : { failure, isAccepted: false }
  }
  const { size } = statSync(path)
  const outside = spans.find(([begin, end]) => !(begin >= 0 && begin <= end && end <= size))
  return outside
    ? { failure: `bytes ${outside} of ${size} accepted`, isAccepted: true }
    : { isAccepted: true }
}

/** What is wrong with this error; undefined if nothing is. */
function wrongRefusal(error: unknown, named: string): string | undefined {
  if (!(error instanceof StartupError)) return error instanceof Error ? error.stack : String(error)
  const { message, cause } = error
  // A mistake in a parser that was taken for an error of the file system.
  if (cause instanceof TypeError || cause instanceof RangeError) return cause.stack
  if (!message.includes(named)) return `does not name the file: ${message}`
  if (/[\n\r]/.test(message)) return `more than one line: ${JSON.stringify(message)}`
  return message.length > MESSAGE_CHARS ? `a message of ${message.length} characters` : undefined
}
