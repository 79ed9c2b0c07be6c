import type { Joints, StreamEvent, Usage } from '../../../shared/protocol/types/events.ts'
import type { TraceStep } from '../../../shared/protocol/types/trace.ts'
import { TraceEvents } from '../../../shared/trace-events.ts'
import type { AnswerState, Recorded, TimedEvent } from '../answer/recording.ts'
import { type Answer, type Conversation, type Message, newId, type Prompt, titleOf } from './conversation.ts'
import { FieldReader } from './field-reader.ts'

/** Of docs/traces.md. */
const VERSION = 1
const NEWER = 'This trace was recorded by a newer apar.'

/** Whether an object is a trace as the HTTP APIs return it. */
export function isTrace({ value }: FieldReader): boolean {
  return typeof value.version === 'number' && Array.isArray(value.steps)
}

/** Whether an object is the first line of a file of `apar trace`. */
export function isTraceFile({ value }: FieldReader): boolean {
  return value.type === 'trace' && typeof value.mode === 'string'
}

/** The API's trace has neither the prompt's text nor the model's name. @throws Error for the user. */
export function readTrace(trace: FieldReader, name: string) {
  if (trace.value.version !== VERSION) throw new Error(NEWER)
  const thread = new Thread()
  thread.ask('A trace without the text of its prompt.')
  const steps = trace.objects('steps').map(readStep)
  const parallel = steps.some(({ forks }) => forks.length > 0)
  const turn = { model: name, parallel, created: Date.now(), joints: 'kept', steps } as const
  thread.answer(recordedOf({ ...turn, usage: usageOf(steps), reason: reasonOf(steps) }))
  return thread.conversation(name, { parallel })
}

/** All turns of a question, with what stands before them. @throws Error for the user. */
export function readTraceFile(text: string) {
  const [head, ...lines] = text.split('\n').flatMap((line, index) => (line === '' ? [] : lineOf(line, index)))
  if (!head) throw new Error('This file is empty.')
  if (head.value.version !== VERSION) throw new Error(NEWER)
  const thread = new Thread()
  const [model, parallel] = [head.string('model'), head.oneOf('mode', ['parallel', 'serial']) === 'parallel']
  const systems: string[] = []
  for (const message of head.objects('before')) {
    const [role, content] = [message.string('role'), message.string('content')]
    if (role === 'system') systems.push(content)
    else if (role === 'user') thread.ask(content)
    else thread.answer(recordedOf({ model, parallel, created: 0, joints: 'kept', steps: [saying(content)] }))
  }
  let turn: { joints: Joints; created: number } | undefined
  let steps: TraceStep[] = []
  for (const line of lines) {
    if (line.value.type === 'turn') {
      thread.ask(line.string('prompt'))
      turn = { joints: line.oneOf('joints', ['kept', 'mended']), created: 1000 * line.number('created') }
      steps = []
    } else if (line.value.type === 'step' && turn) {
      steps.push(readStep(line))
    } else if (line.value.type === 'end' && turn) {
      const usage = readUsage(line.object('usage'), steps)
      const ended = { usage, reason: line.oneOf('reason', REASONS), elapsedMs: line.number('wall_ms') }
      thread.answer(recordedOf({ model, parallel, ...turn, steps, ...ended }))
      turn = undefined
    } else if (line.value.type !== 'refused') line.fail('type')
  }
  if (turn) throw new Error('This trace is cut off: an answer has no end.')
  const [system] = systems
  return thread.conversation(`${head.string('id')} (${head.string('mode')}): ${thread.firstPrompt}`, {
    ...{ parallel, model },
    ...(system !== undefined && { system }),
  })
}

function lineOf(line: string, index: number): FieldReader {
  try {
    return new FieldReader(JSON.parse(line), `line ${index + 1}: `)
  } catch {
    throw new Error(`This file is damaged: line ${index + 1} is not JSON.`)
  }
}

const REASONS = ['stop', 'length', 'abort', 'error'] as const

/** What the page shows of a step is checked; its figures stay as they are, to be downloaded again. */
function readStep(step: FieldReader): TraceStep {
  step.number('us')
  for (const given of step.objects('tokens')) {
    given.number('branch')
    given.string('text')
    given.list('ids')
  }
  for (const fork of step.objects('forks')) {
    fork.number('branch')
    fork.number('parent')
  }
  for (const end of step.objects('ends')) {
    end.number('branch')
    end.oneOf('reason', REASONS)
  }
  const { type: _, ...fields } = step.value
  return fields as unknown as TraceStep
}

function readUsage(usage: FieldReader, steps: readonly TraceStep[]): Usage {
  const counted = usageOf(steps)
  const branches = usage.list('branches') as Usage['branches']
  return { ...counted, ...usage.value, completion_tokens: usage.number('completion_tokens'), branches }
}

/** Counted from the steps, for a trace that comes without it. */
function usageOf(steps: readonly TraceStep[]): Usage {
  const byBranch = new Map<number, number>()
  for (const { tokens } of steps)
    for (const { branch, ids } of tokens) byBranch.set(branch, (byBranch.get(branch) ?? 0) + ids.length)
  const branches = [...byBranch].map(([branch, completion_tokens]) => ({ branch, completion_tokens }))
  const completion_tokens = branches.reduce((sum, each) => sum + each.completion_tokens, 0)
  const prompt_tokens = steps.find(({ prompt }) => prompt)?.prompt?.length ?? 0
  const drafted = steps.reduce((sum, step) => sum + (step.drafted ?? 0), 0)
  const accepted = steps.reduce((sum, step) => sum + (step.accepted ?? 0), 0)
  return {
    ...{ prompt_tokens, cached_prompt_tokens: 0, completion_tokens },
    ...{ total_tokens: prompt_tokens + completion_tokens, branches },
    ...(drafted > 0 && { apar: { speculation: { drafted, accepted } } }),
  }
}

function reasonOf(steps: readonly TraceStep[]) {
  const ends = steps.flatMap(({ ends }) => ends)
  return ends.find(({ branch }) => branch === 0)?.reason ?? 'stop'
}

/** A step that gives a whole text. */
function saying(text: string): TraceStep {
  const figures = {
    rows: 0,
    batch_rows: 0,
    live: 1,
    sampled: 1,
    blocks: 0,
    used_blocks: 0,
    cached: 0,
    attended: 0,
  }
  return { step: 0, us: 0, ...figures, tokens: [{ branch: 0, ids: [], text }], forks: [], ends: [] }
}

interface TracedAnswer {
  readonly model: string
  readonly parallel: boolean
  /** Unix time in ms. */
  readonly created: number
  readonly joints: Joints
  readonly steps: readonly TraceStep[]
  readonly usage?: Usage
  readonly reason?: (typeof REASONS)[number]
  readonly elapsedMs?: number
}

/** The answer as if it had been received: with the engine's times, and with its steps behind it. */
function recordedOf(answer: TracedAnswer): Recorded {
  const { model, parallel, created, joints, steps, usage = usageOf(steps), reason = 'stop' } = answer
  const lastMs = (steps.at(-1)?.us ?? 0) / 1000
  const elapsed_ms = answer.elapsedMs ?? lastMs
  const accepted = { type: 'accepted', seq: 0, version: 1, stream: '', model, joints } as const
  const events: TimedEvent[] = [[0, { ...accepted, created: Math.floor(created / 1000) }]]
  const grown = new TraceEvents(1)
  for (const step of steps) for (const event of grown.advance(step)) events.push([step.us / 1000, event])
  const add = (event: (seq: number) => StreamEvent) => events.push([lastMs, event(events.length)])
  if (steps.some(({ rows }) => rows > 0)) add((seq) => ({ type: 'trace', seq, steps: [...steps] }))
  add((seq) => ({ type: 'done', seq, reason, usage }))
  const state: AnswerState = reason === 'abort' ? 'stopped' : 'complete'
  return { model, parallel, started: created, state, elapsed_ms, events, after: events.length - 1 }
}

/** A conversation in one line, message by message. */
class Thread {
  readonly #id = newId()
  readonly #messages: Message[] = []

  get firstPrompt(): string {
    return this.#messages.find((message) => message.role === 'user')?.text ?? ''
  }

  ask(text: string): void {
    this.#messages.push({ ...this.#next(), role: 'user', text } satisfies Prompt)
  }

  answer(recorded: Recorded): void {
    this.#messages.push({ ...this.#next(), role: 'assistant', recorded } satisfies Answer)
  }

  conversation(title: string, settings: Conversation['settings']) {
    const now = Date.now()
    const leaf = this.#messages.at(-1)?.id ?? null
    const conversation = { id: this.#id, title: titleOf(title), created: now, updated: now, settings, leaf }
    return { conversation, messages: this.#messages }
  }

  /** Ordered by `created` among siblings, of which there are none. */
  #next() {
    const parent = this.#messages.at(-1)?.id ?? null
    return { id: newId(), conversation: this.#id, parent, created: Date.now() }
  }
}
