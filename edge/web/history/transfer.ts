import { Recording, type TimedEvent } from '../answer/recording.ts'
import { type Conversation, type Message, newId, pathTo } from './conversation.ts'
import { FILE_FORMAT, readFile } from './file-format.ts'

/** A conversation as a file. Answers have their events with times, so that their time lines can be opened again. */
export function toJson(conversation: Conversation, messages: readonly Message[]): string {
  return `${JSON.stringify({ format: FILE_FORMAT, version: 1, conversation, messages }, undefined, 1)}\n`
}

/** The messages that are shown, as a document for people. */
export function toMarkdown({ title, leaf, settings }: Conversation, messages: readonly Message[]): string {
  const parts = [`# ${title}`]
  if (settings.system) parts.push(`## System\n\n${settings.system}`)
  for (const message of pathTo(messages, leaf)) {
    if (message.role === 'user') parts.push(`## You\n\n${message.text}`)
    else parts.push(`## ${message.recorded.model}\n\n${new Recording(message.recorded.events).text().trim()}`)
  }
  return `${parts.join('\n\n')}\n`
}

/**
 * Reads what {@link toJson} has written. Everything gets new ids, so that a file can be imported beside the
 * conversation that it comes from.
 * @throws Error with a message for the user when the file is something else, or damaged.
 */
export function fromJson(text: string): { conversation: Conversation; messages: Message[] } {
  const { conversation, messages } = readFile(text)
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
  try {
    new Recording(events)
  } catch {
    throw new Error('This conversation is damaged: the events of an answer contradict each other.')
  }
}
