import { type Conversation, isRecord, type Turn } from '../conversation.ts'

/** Faults of records that a build repairs or leaves out: counted in the report, errors with --strict. */
export const FAULTS = {
  byte_order_mark: 'the file begins with a byte order mark',
  empty_file: 'the file has no records',
  invalid_utf8: 'the record is not valid UTF-8',
  lone_surrogate: 'half of a surrogate pair (\\ud83d alone), which no text has',
  duplicate_id: 'the id was seen before',
  no_turn: 'no question with an answer',
  empty_turn: 'an empty question or answer: it and what follows are left out',
  role_order: 'a message out of turn: it and what follows are left out',
  first_message: 'the conversation begins with an answer, which is left out',
  unanswered: 'the last question has no answer and is left out',
} as const
export type Fault = keyof typeof FAULTS

export interface ReadConversation extends Conversation {
  faults: Fault[]
  /** The record has a `finish_reason`, as `apar data answer` and APIs write it, that is not "stop". */
  cutOff?: true
}

type Role = 'system' | 'user' | 'assistant'

interface Message {
  /** Undefined for other roles, such as tools. */
  role: Role | undefined
  text: string
}

const ROLES: Readonly<Record<string, Role>> = {
  ...{ system: 'system', developer: 'system' },
  ...{ human: 'user', user: 'user', prompter: 'user' },
  ...{ gpt: 'assistant', assistant: 'assistant', chatgpt: 'assistant', bard: 'assistant', bing: 'assistant' },
  model: 'assistant',
}

const SHAPES =
  '{conversations: [{from, value}]}, {messages: [{role, content}]}, {dialogs: [{prompt, response}]}, {prompt, response} or {instruction, input, output}'

/**
 * The conversation in a record of any of the shapes that are read; which one is known by its fields.
 * @param defaultId for a record without `id`.
 * @param fail throws the error for a record that is no conversation.
 */
export function toConversation(
  value: unknown,
  defaultId: string,
  fail: (reason: string) => never,
): ReadConversation {
  if (!isRecord(value)) return fail(`expected an object: ${SHAPES}`)
  const { group, finish_reason } = value
  if (group !== undefined && typeof group !== 'string') return fail('"group" must be a string')
  const read = turnsOf(value, fail)
  const { system } = read
  return {
    id: idOf(value, fail) ?? defaultId,
    dialogs: read.turns,
    faults: [...read.faults],
    ...(typeof finish_reason === 'string' && finish_reason !== 'stop' && { cutOff: true }),
    ...(system && { system }),
    ...(group !== undefined && { group }),
  }
}

/** Numbers are ids, too; undefined without one. */
export function idOf(value: Record<string, unknown>, fail: (reason: string) => never): string | undefined {
  const { id } = value
  if (typeof id === 'number') return String(id)
  if (id === undefined || id === null) return undefined
  if (typeof id !== 'string' || id === '') return fail('"id" must be a non-empty string')
  return id
}

interface Turns {
  turns: Turn[]
  system?: string
  faults: Set<Fault>
}

function turnsOf(value: Record<string, unknown>, fail: (reason: string) => never): Turns {
  const { conversations, messages, dialogs } = value
  if (conversations !== undefined)
    return paired(messageList(conversations, 'conversations', 'from', 'value', fail))
  if (messages !== undefined) return paired(messageList(messages, 'messages', 'role', 'content', fail))
  if (dialogs !== undefined) {
    if (!Array.isArray(dialogs)) return fail('"dialogs" must be a list of {prompt, response}')
    return whole(dialogs.map((turn, index) => pair(turn, `"dialogs.${index}"`, fail)))
  }
  if (value.prompt !== undefined) return whole([pair(value, 'a record', fail)])
  if (value.instruction !== undefined) return whole([instructionTurn(value, fail)])
  return fail(`none of the known shapes: ${SHAPES}`)
}

function pair(value: unknown, where: string, fail: (reason: string) => never): Turn {
  if (!isRecord(value)) return fail(`${where} must be {prompt, response}`)
  const response = value.response ?? value.completion
  if (typeof value.prompt !== 'string' || typeof response !== 'string')
    return fail(`${where} must be {prompt, response}, both strings`)
  return { prompt: value.prompt, response }
}

/** As Alpaca has it: `input` is what the instruction is about, and may be empty. */
function instructionTurn(
  { instruction, input, output }: Record<string, unknown>,
  fail: (reason: string) => never,
): Turn {
  if (typeof instruction !== 'string' || typeof output !== 'string')
    return fail('a record must be {instruction, input?, output}, all strings')
  if (input !== undefined && input !== null && typeof input !== 'string')
    return fail('"input" must be a string')
  return { prompt: input ? `${instruction}\n\n${input}` : instruction, response: output }
}

function messageList(
  list: unknown,
  field: string,
  roleField: string,
  textField: string,
  fail: (reason: string) => never,
): Message[] {
  if (!Array.isArray(list)) return fail(`"${field}" must be a list of {${roleField}, ${textField}}`)
  return list.map((message: unknown, index) => {
    const where = `"${field}.${index}"`
    if (!isRecord(message)) return fail(`${where} must be {${roleField}, ${textField}}`)
    const role = message[roleField]
    if (typeof role !== 'string') return fail(`${where}: ${roleField} must be a string`)
    return { role: ROLES[role], text: textOf(message[textField], `${where}: ${textField}`, fail) }
  })
}

/** A text, or the texts of a list of parts as OpenAI's API has them. */
function textOf(content: unknown, where: string, fail: (reason: string) => never): string {
  if (typeof content === 'string') return content
  if (content === null || content === undefined) return ''
  if (!Array.isArray(content)) return fail(`${where} must be a string`)
  return content
    .map((part: unknown) =>
      isRecord(part) && typeof part.text === 'string'
        ? part.text
        : fail(`${where}: only parts of text are read`),
    )
    .join('')
}

function whole(turns: Turn[]): Turns {
  return { turns, faults: new Set() }
}

/** Questions and the answers behind them, as far as the roles are in order. */
function paired(messages: readonly Message[]): Turns {
  const faults = new Set<Fault>()
  const turns: Turn[] = []
  let system: string | undefined
  let question: string | undefined
  for (const [index, { role, text }] of messages.entries()) {
    if (role === 'system' && index === 0) system = text
    else if (role === 'user' && question === undefined) question = text
    else if (role === 'assistant' && question !== undefined) {
      turns.push({ prompt: question, response: text })
      question = undefined
    } else if (role === 'assistant' && turns.length === 0) faults.add('first_message')
    else {
      faults.add('role_order')
      question = undefined
      break
    }
  }
  if (question !== undefined) faults.add('unanswered')
  return { turns, faults, ...(system && { system }) }
}

/** Whether a text of it is no Unicode: no tokenizer can say what it is, and UTF-8 has no bytes for it. */
export function hasLoneSurrogate({ id, group, system, dialogs }: Conversation): boolean {
  const texts = [id, group, system, ...dialogs.flatMap(({ prompt, response }) => [prompt, response])]
  return texts.some((text) => text !== undefined && !text.isWellFormed())
}

/** The turns before the first empty question or answer. */
export function withoutEmptyTurns(conversation: ReadConversation): ReadConversation {
  const { dialogs, faults } = conversation
  const empty = dialogs.findIndex(({ prompt, response }) => prompt.trim() === '' || response.trim() === '')
  if (empty === -1) return conversation
  return { ...conversation, dialogs: dialogs.slice(0, empty), faults: [...faults, 'empty_turn'] }
}
