import { appendFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs'
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
  out: z.string(),
  recipe: z.string().optional(),
  processes: z.int().min(1),
  settings: SettingsFile,
  /** What a shell would run. */
  line: z.string(),
  /** ISO 8601 */
  started: z.string(),
  seconds: z.number().min(0),
  end: z.enum(['done', 'stopped', 'failed']),
  versions: z.record(z.string(), z.string()),
  hardware: z.object({ cpu: z.string(), cores: z.int(), memory: z.number(), gpus: z.array(z.string()) }),
})
export type Invocation = z.infer<typeof Invocation>

/** Adds a line to the file of a run. */
export function recordInvocation(run: string, invocation: Invocation): void {
  mkdirSync(run, { recursive: true })
  appendFileSync(join(run, FILE), `${JSON.stringify(invocation)}\n`)
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
