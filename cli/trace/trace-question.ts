import { OrderedText } from '../../shared/branch-tree.ts'
import { AparError, toAparError } from '../../shared/errors.ts'
import type { ChatMessage, GenerateRequest } from '../../shared/protocol/request.ts'
import { TRACE_VERSION } from '../../shared/protocol/trace.ts'
import { UserError } from '../explain.ts'
import { type Replay, wholeTree } from '../replay/replay.ts'
import type { Ask } from './ask.ts'
import type { Question } from './dataset.ts'
import type { Mode, TraceLine } from './trace-file.ts'

/** Of every request of a run, except for its messages. */
export type RequestSettings = Omit<GenerateRequest, 'messages' | 'trace'>

/** A prompt that a busy machine could not encode in a server's time is asked again; so is a full node. */
const ATTEMPTS = 20
const AGAIN = new Set(['request_timeout', 'overloaded'])

export interface TracedQuestion {
  readonly lines: TraceLine[]
  readonly tokens: number
}

/**
 * Asks all turns of a question, each with the answers before it, and returns the lines of the trace. A replay has the
 * turns that were answered.
 * @throws AparError when a turn fails; one that does not fit the context ends the trace instead.
 */
export async function traceQuestion(
  ask: Ask,
  question: Question,
  mode: Mode,
  settings: RequestSettings,
  replay?: Pick<Replay, 'forced'> | undefined,
): Promise<TracedQuestion> {
  const { id, category, line, before, turns } = question
  const { model } = settings
  const lines: TraceLine[] = [
    {
      type: 'trace',
      version: TRACE_VERSION,
      id,
      category,
      mode,
      model,
      question: line,
      before: [...before],
      turns: turns.length,
    },
  ]
  const messages: ChatMessage[] = [...before]
  const limits = replay ? wholeTree(settings.branching) : settings.branching
  const branching = mode === 'serial' ? { enabled: false } : limits
  let tokens = 0
  for (const [index, prompt] of turns.entries()) {
    const forced = replay?.forced(id, index)
    if (replay && !forced) break
    messages.push({ role: 'user', content: prompt })
    const request = { ...settings, messages: [...messages], trace: true, ...(branching && { branching }) }
    try {
      const turn = await traceTurn((each) => ask(each, forced), request, { turn: index + 1, prompt })
      for (const each of turn.lines) lines.push(each)
      tokens += turn.tokens
      messages.push({ role: 'assistant', content: turn.text })
    } catch (error) {
      const { code, message } = toAparError(error)
      if (code !== 'context_length_exceeded') throw error
      lines.push({ type: 'refused', turn: index + 1, code, message })
      break
    }
  }
  return { lines, tokens }
}

async function traceTurn(ask: Ask, request: GenerateRequest, of: { turn: number; prompt: string }) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await oneTurn(ask, request, of)
    } catch (error) {
      if (!AGAIN.has(toAparError(error).code) || attempt === ATTEMPTS) throw error
    }
  }
}

async function oneTurn(
  ask: Ask,
  request: GenerateRequest,
  { turn, prompt }: { turn: number; prompt: string },
) {
  const begun = performance.now()
  const ordered = new OrderedText()
  const lines: TraceLine[] = []
  for await (const event of ask(request)) {
    ordered.push(event)
    if (event.type === 'accepted') {
      const { joints, created, fingerprint } = event
      lines.push({ type: 'turn', turn, prompt, joints, created, ...(fingerprint && { fingerprint }) })
    } else if (event.type === 'trace') {
      for (const step of event.steps) lines.push({ type: 'step', ...step })
    } else if (event.type === 'done') {
      const { reason, usage } = event
      if (!lines.some(({ type }) => type === 'step'))
        throw new UserError('no_trace', 'the answer has no trace: its gpu node is of an older version')
      const wall_ms = Math.round(1000 * (performance.now() - begun)) / 1000
      const text = ordered.tree.text()
      lines.push({ type: 'end', turn, reason, usage, text, wall_ms })
      return { lines, text, tokens: usage.completion_tokens }
    }
  }
  throw new AparError('gpu_node_lost', 'the answer was cut before its end')
}
