import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { gunzipSync, gzipSync } from 'node:zlib'
import { z } from 'zod'
import { AparError } from '../../shared/errors.ts'
import { FinishReason, Joints, Usage } from '../../shared/protocol/events.ts'
import { ChatMessage } from '../../shared/protocol/request.ts'
import { TRACE_VERSION, TraceStep } from '../../shared/protocol/trace.ts'

export const MODES = ['parallel', 'serial'] as const
export const Mode = z.enum(MODES)
export type Mode = z.infer<typeof Mode>

/** The first line of a file (docs/traces.md). */
export const TraceHead = z.object({
  type: z.literal('trace'),
  version: z.literal(TRACE_VERSION),
  id: z.string(),
  category: z.string(),
  mode: Mode,
  model: z.string(),
  /** The question as its file has it. */
  question: z.record(z.string(), z.unknown()),
  before: z.array(ChatMessage),
  turns: z.number().int().min(1),
})
export type TraceHead = z.infer<typeof TraceHead>

const turn = z.int().min(1)
/** Begins a turn, from 1: its steps follow. */
const TurnLine = z.object({
  type: z.literal('turn'),
  turn,
  /** What the user said. */
  prompt: z.string(),
  joints: Joints,
  /** Unix time in seconds. */
  created: z.int(),
  fingerprint: z.string().optional(),
})
const StepLine = TraceStep.extend({ type: z.literal('step') })
const EndLine = z.object({
  type: z.literal('end'),
  turn,
  reason: FinishReason,
  usage: Usage,
  /** The answer in document order. */
  text: z.string(),
  /** From sending the request to its last event, as the caller measured it, in ms. */
  wall_ms: z.number().min(0),
})
/** A turn that was not answered, and those behind it neither. */
const RefusedLine = z.object({ type: z.literal('refused'), turn, code: z.string(), message: z.string() })

export const TraceLine = z.discriminatedUnion('type', [TraceHead, TurnLine, StepLine, EndLine, RefusedLine])
export type TraceLine = z.infer<typeof TraceLine>

/** One answered turn. */
export interface TracedTurn {
  readonly begin: z.infer<typeof TurnLine>
  readonly steps: readonly TraceStep[]
  readonly end: z.infer<typeof EndLine>
}

/** All turns of one question in one mode. */
export interface TraceOfQuestion {
  readonly head: TraceHead
  readonly turns: readonly TracedTurn[]
  readonly refused: z.infer<typeof RefusedLine> | undefined
}

/** Writes a whole file: it is there completely, or not at all. */
export function writeTrace(path: string, lines: readonly TraceLine[]): void {
  const text = lines.map((line) => `${JSON.stringify(line)}\n`).join('')
  mkdirSync(dirname(path), { recursive: true })
  const aside = `${path}.partial`
  writeFileSync(aside, gzipSync(text))
  renameSync(aside, path)
}

/** @throws AparError `invalid_request` that names file and line, also for a trace of another version. */
export function readTrace(path: string): TraceOfQuestion {
  const bad = (line: number, what: string) => new AparError('invalid_request', `${path}:${line}: ${what}`)
  let text: string
  try {
    text = gunzipSync(readFileSync(path)).toString()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).syscall !== undefined) throw error
    throw new AparError('invalid_request', `${path}: not a gzip file, or cut off`, { cause: error })
  }
  let head: TraceHead | undefined
  const turns: { begin: z.infer<typeof TurnLine>; steps: TraceStep[]; end?: z.infer<typeof EndLine> }[] = []
  let refused: z.infer<typeof RefusedLine> | undefined
  for (const [index, json] of text.split('\n').entries()) {
    if (json === '') continue
    const line = parsedLine(json)
    if (!line) throw bad(index + 1, `no line of a trace of version ${TRACE_VERSION}`)
    const open = turns.at(-1)
    if ((line.type === 'trace') !== (index === 0))
      throw bad(index + 1, 'a trace begins with one line of type trace')
    if (line.type === 'trace') head = line
    else if (line.type === 'turn') turns.push({ begin: line, steps: [] })
    else if (line.type === 'refused') refused = line
    else if (!open || open.end) throw bad(index + 1, `${line.type} outside a turn`)
    else if (line.type === 'end') open.end = line
    else open.steps.push(line)
  }
  if (!head) throw bad(1, 'the file is empty')
  const whole = turns.filter((each): each is TracedTurn & { steps: TraceStep[] } => each.end !== undefined)
  return { head, turns: whole, refused }
}

function parsedLine(json: string): TraceLine | undefined {
  try {
    return TraceLine.safeParse(JSON.parse(json)).data
  } catch {
    return undefined
  }
}
