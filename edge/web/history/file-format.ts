import type { Recorded, TimedEvent } from '../answer/recording.ts'
import type { Conversation, Message, Settings } from './conversation.ts'
import type { FieldReader } from './field-reader.ts'

export const FILE_FORMAT = 'apar-conversation'

/**
 * Reads a conversation's file, which may come from anywhere.
 * @throws Error that says in words for the user which field is wrong.
 */
export function readFile(file: FieldReader): { conversation: Conversation; messages: Message[] } {
  if (file.value.version !== 1) throw new Error('This conversation was exported by a newer apar.')
  const conversation = readConversation(file.object('conversation'))
  return { conversation, messages: file.objects('messages').map(readMessage) }
}

function readConversation(from: FieldReader): Conversation {
  return {
    id: from.string('id'),
    title: from.string('title'),
    created: from.number('created'),
    updated: from.number('updated'),
    leaf: from.value.leaf === null ? null : from.string('leaf'),
    settings: readSettings(from.object('settings')),
  }
}

function readSettings(from: FieldReader): Settings {
  return {
    parallel: from.value.parallel !== false,
    ...(from.value.trace === true && { trace: true }),
    ...from.optional('model', 'string'),
    ...from.optional('system', 'string'),
    ...from.optional('temperature', 'number'),
    ...from.optional('top_p', 'number'),
    ...from.optional('max_tokens', 'number'),
    ...from.optional('seed', 'number'),
  }
}

function readMessage(from: FieldReader): Message {
  const tree = {
    id: from.string('id'),
    conversation: from.string('conversation'),
    parent: from.value.parent === null ? null : from.string('parent'),
    created: from.number('created'),
  }
  if (from.value.role === 'user') return { ...tree, role: 'user', text: from.string('text') }
  if (from.value.role === 'assistant')
    return { ...tree, role: 'assistant', recorded: readRecorded(from.object('recorded')) }
  return from.fail('role')
}

const STATES = ['running', 'complete', 'stopped', 'failed'] as const satisfies Recorded['state'][]

function readRecorded(from: FieldReader): Recorded {
  const problem = from.value.problem === undefined ? undefined : from.object('problem')
  return {
    model: from.string('model'),
    parallel: from.value.parallel !== false,
    started: from.number('started'),
    state: from.oneOf('state', STATES),
    elapsed_ms: from.number('elapsed_ms'),
    after: from.number('after'),
    events: from.list('events').map((event, index) => readEvent(event, () => from.fail(`events.${index}`))),
    ...(problem && {
      problem: {
        code: problem.string('code') as NonNullable<Recorded['problem']>['code'],
        message: problem.string('message'),
      },
    }),
  }
}

/** Fields of events that the page uses, and what they must be. */
const EVENT_FIELDS: Record<string, Record<string, 'number' | 'string' | 'object'>> = {
  accepted: { stream: 'string', joints: 'string' },
  fork: { branch: 'number', parent: 'number', at: 'number' },
  delta: { branch: 'number', text: 'string' },
  reasoning: { branch: 'number', text: 'string' },
  branch_end: { branch: 'number', reason: 'string' },
  trace: { steps: 'object' },
  done: { reason: 'string', usage: 'object' },
}

function readEvent(timed: unknown, fail: () => never): TimedEvent {
  const [ms, event] = Array.isArray(timed) ? timed : []
  if (typeof ms !== 'number' || typeof event !== 'object' || event === null) return fail()
  const fields = Object.hasOwn(EVENT_FIELDS, event.type) ? EVENT_FIELDS[event.type] : undefined
  if (!fields || typeof event.seq !== 'number') return fail()
  for (const [name, type] of Object.entries(fields))
    if (typeof event[name] !== type || event[name] === null) return fail()
  if (event.type === 'done' && !isUsage(event.usage)) return fail()
  if (event.type === 'trace' && !Array.isArray(event.steps)) return fail()
  if (!['undefined', 'number'].includes(typeof event.reasoning_at)) return fail()
  return [ms, event]
}

function isUsage({
  completion_tokens,
  branches,
}: {
  completion_tokens?: unknown
  branches?: unknown
}): boolean {
  return typeof completion_tokens === 'number' && Array.isArray(branches)
}
