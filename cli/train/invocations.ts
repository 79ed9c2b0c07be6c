import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { parseJson } from '../../shared/parse.ts'
import { SettingsFile, TRAIN_COMMANDS } from './settings.ts'

const FILE = 'invocations.jsonl'

/** One call of `apar train sft` or another command that trains, with what a reader of its model would have to know: a line of RUN/invocations.jsonl. */
const Invocation = z.object({
  command: z.enum(TRAIN_COMMANDS).default('sft'),
  data: z.string(),
  model: z.string(),
  modelPath: z.string(),
  adapter: z.string().optional(),
  out: z.string(),
  recipe: z.string().optional(),
  processes: z.int().min(1),
  settings: SettingsFile,
  /** What a shell would run. */
  line: z.string(),
  /** ISO 8601 */
  started: z.string(),
  seconds: z.number().min(0),
  /** `cut`: it was killed, and its time is not known. */
  end: z.enum(['running', 'done', 'stopped', 'failed', 'cut']),
  versions: z.record(z.string(), z.string()),
  hardware: z.object({ cpu: z.string(), cores: z.int(), memory: z.number(), gpus: z.array(z.string()) }),
})
export type Invocation = z.infer<typeof Invocation>

/** What is known when a call begins. */
export type BegunInvocation = Omit<Invocation, 'seconds' | 'end'>

/**
 * Adds a call to the file of a run before it does anything: however it ends, `--resume` goes on with its settings.
 * @returns what notes its end
 */
export function recordInvocation(
  run: string,
  invocation: BegunInvocation,
): (seconds: number, end: Invocation['end']) => void {
  mkdirSync(run, { recursive: true })
  const earlier = readInvocations(run).map((each) =>
    each.end === 'running' ? { ...each, end: 'cut' as const } : each,
  )
  write(run, [...earlier, { ...invocation, seconds: 0, end: 'running' }])
  return (seconds, end) => write(run, [...earlier, { ...invocation, seconds, end }])
}

/** Written aside and renamed, so that a kill leaves the lines before. */
function write(run: string, invocations: readonly Invocation[]): void {
  const aside = join(run, `${FILE}.part`)
  writeFileSync(aside, invocations.map((each) => `${JSON.stringify(each)}\n`).join(''), { flush: true })
  renameSync(aside, join(run, FILE))
}

export function hasInvocations(run: string): boolean {
  return existsSync(join(run, FILE))
}

/** All calls of a run in order. @throws AparError for a file that another program has changed. */
export function readInvocations(run: string): Invocation[] {
  const file = join(run, FILE)
  if (!existsSync(file)) return []
  const lines = readFileSync(file, 'utf8').split('\n').filter(Boolean)
  return lines.map((line) => parseJson(Invocation, line))
}

export function lastInvocation(run: string): Invocation | undefined {
  return readInvocations(run).at(-1)
}
