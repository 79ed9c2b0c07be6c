import { BranchTree } from '../../../shared/branch-tree.ts'
import type { TimedEvent } from '../answer/recording.ts'
import { type Conversation, type Message, newId } from './conversation.ts'
import { FieldReader } from './field-reader.ts'
import { FILE_FORMAT, readFile } from './file-format.ts'
import { isTrace, isTraceFile, readTrace, readTraceFile } from './trace-file.ts'

export interface Opened {
  readonly conversation: Conversation
  readonly messages: Message[]
}

const UNKNOWN = 'This file is neither a conversation nor a trace of apar.'

/**
 * Opens a file by what it holds: a conversation or the trace of an answer as the page writes them, a file of `apar
 * trace` (gzip or not), or a trace as the HTTP APIs return it. Everything gets new ids, so that a file can be opened
 * beside the conversation that it comes from. `name`: the title of what has none.
 * @throws Error with a message for the user when the file is something else, or damaged.
 */
export async function openFile(name: string, file: Blob): Promise<Opened> {
  return withNewIds(readAny(name, await textOf(file)))
}

function readAny(name: string, text: string): Opened {
  const [first = ''] = text.trimStart().split('\n', 1)
  // A file of one line is both: a list of lines and JSON as a whole.
  const head = objectOf(first)
  if (head && isTraceFile(head)) return readTraceFile(text)
  const whole = objectOf(text)
  if (!whole) throw new Error(isJson(text) ? UNKNOWN : 'This file is not JSON.')
  if (whole.value.format === FILE_FORMAT) return readFile(whole)
  if (isTrace(whole)) return readTrace(whole, name)
  throw new Error(UNKNOWN)
}

const GZIP = [0x1f, 0x8b]

async function textOf(file: Blob): Promise<string> {
  const start = new Uint8Array(await file.slice(0, GZIP.length).arrayBuffer())
  if (!GZIP.every((byte, index) => byte === start[index])) return await file.text()
  try {
    return await new Response(file.stream().pipeThrough(new DecompressionStream('gzip'))).text()
  } catch {
    throw new Error('This file is compressed, but cut off or damaged.')
  }
}

function objectOf(text: string): FieldReader | undefined {
  try {
    return new FieldReader(JSON.parse(text))
  } catch {
    return undefined
  }
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

function withNewIds({ conversation, messages }: Opened): Opened {
  const ids = new Map(messages.map((message) => [message.id, newId()]))
  const own = newId()
  const renamed = (old: string | null) => (old === null ? null : (ids.get(old) ?? null))
  return {
    conversation: { ...conversation, id: own, leaf: renamed(conversation.leaf), updated: Date.now() },
    messages: messages.map((message): Message => {
      const tree = { id: ids.get(message.id) ?? newId(), conversation: own, parent: renamed(message.parent) }
      if (message.role === 'user') return { ...message, ...tree }
      const { recorded } = message
      replay(recorded.events)
      // The stream of an answer that ran belongs to another browser.
      const state = recorded.state === 'running' ? 'stopped' : recorded.state
      return { ...message, ...tree, recorded: { ...recorded, state } }
    }),
  }
}

/** @throws Error for the user when the events contradict each other. */
function replay(events: readonly TimedEvent[]): void {
  const tree = new BranchTree()
  try {
    for (const [, event] of events) tree.apply(event)
  } catch {
    throw new Error('This file is damaged: the events of an answer contradict each other.')
  }
}
