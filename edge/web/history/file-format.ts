import type { Recorded, TimedEvent } from '../answer/recording.ts'
import type { Conversation, Message, Settings } from './conversation.ts'

export const FILE_FORMAT = 'apar-conversation'

/**
 * Reads a conversation's file, field by field: it may come from anywhere. Not with the schemas of `shared/`, which would
 * make the page three times as large.
 * @throws Error that says in words for the user which field is wrong.
 */
export function readFile(text: string): { conversation: Conversation; messages: Message[] } {
  const file = new Reader(jsonOf(text), '')
  if (file.value.format !== FILE_FORMAT) throw new Error('This file is not a conversation of apar.')
  if (file.value.version !== 1) throw new Error('This conversation was exported by a newer apar.')
  const conversation = readConversation(file.object('conversation'))
  return { conversation, messages: file.objects('messages').map(readMessage) }
}

function readConversation(from: Reader): Conversation {
  return {
    id: from.string('id'),
    title: from.string('title'),
    created: from.number('created'),
    updated: from.number('updated'),
    leaf: from.value.leaf === null ? null : from.string('leaf'),
    settings: readSettings(from.object('settings')),
  }
}

function readSettings(from: Reader): Settings {
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

function readMessage(from: Reader): Message {
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

const STATES: readonly string[] = ['running', 'complete', 'stopped', 'failed'] satisfies Recorded['state'][]

function readRecorded(from: Reader): Recorded {
  const { state, events } = from.value
  if (typeof state !== 'string' || !STATES.includes(state)) return from.fail('state')
  if (!Array.isArray(events)) return from.fail('events')
  const problem = from.value.problem === undefined ? undefined : from.object('problem')
  return {
    model: from.string('model'),
    parallel: from.value.parallel !== false,
    started: from.number('started'),
    state: state as Recorded['state'],
    elapsed_ms: from.number('elapsed_ms'),
    after: from.number('after'),
    events: events.map((event, index) => readEvent(event, () => from.fail(`events.${index}`))),
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

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new Error('This file is not JSON.')
  }
}

/** An object of a file, and where it stands there. */
class Reader {
  readonly value: Record<string, unknown>
  readonly #where: string

  constructor(value: unknown, where: string) {
    this.#where = where
    if (typeof value !== 'object' || value === null || Array.isArray(value)) this.fail('')
    this.value = { ...(value as object) }
  }

  string(name: string): string {
    const value = this.value[name]
    return typeof value === 'string' ? value : this.fail(name)
  }

  number(name: string): number {
    const value = this.value[name]
    return typeof value === 'number' ? value : this.fail(name)
  }

  object(name: string): Reader {
    return new Reader(this.value[name], `${this.#where}${name}.`)
  }

  objects(name: string): Reader[] {
    const value = this.value[name]
    if (!Array.isArray(value)) return this.fail(name)
    return value.map((each, index) => new Reader(each, `${this.#where}${name}.${index}.`))
  }

  /** The field as an object to be spread; empty when it is absent. */
  optional<N extends string>(name: N, type: 'string' | 'number'): object {
    const value = this.value[name]
    if (value === undefined) return {}
    return typeof value === type ? { [name]: value } : this.fail(name)
  }

  fail(name: string): never {
    throw new Error(`This conversation is damaged: ${this.#where}${name || 'it'} is not what it should be.`)
  }
}
