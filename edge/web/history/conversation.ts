import type { Vote } from '../../../client/index.ts'
import type { Recorded } from '../answer/recording.ts'

/** What the page sends with each request of a conversation. Absent fields have the model's own values. */
export interface Settings {
  readonly model?: string | undefined
  /** Sent as the first message, when not empty. */
  readonly system?: string | undefined
  readonly parallel: boolean
  readonly temperature?: number | undefined
  readonly top_p?: number | undefined
  readonly max_tokens?: number | undefined
  readonly seed?: number | undefined
  /** Answers come with what each step of the engine did. */
  readonly trace?: boolean | undefined
}

/**
 * The messages of a conversation are a tree: an edited prompt or a regenerated answer is a sibling of the first one.
 * `leaf` is the last message of the path that is shown.
 */
export interface Conversation {
  readonly id: string
  readonly title: string
  /** Unix time in ms. */
  readonly created: number
  readonly updated: number
  readonly settings: Settings
  readonly leaf: string | null
}

interface MessageOfTree {
  readonly id: string
  readonly conversation: string
  readonly parent: string | null
  /** Unix time in ms; orders siblings. */
  readonly created: number
}

export interface Prompt extends MessageOfTree {
  readonly role: 'user'
  readonly text: string
}

export interface Answer extends MessageOfTree {
  readonly role: 'assistant'
  readonly recorded: Recorded
  /** What the operator was told. */
  readonly opinion?: Opinion | undefined
}

export interface Opinion {
  readonly vote: Vote
  readonly reason?: string | undefined
}

export type Message = Prompt | Answer

/** From the first message to `leaf`. */
export function pathTo(messages: readonly Message[], leaf: string | null): Message[] {
  const byId = new Map(messages.map((message) => [message.id, message]))
  const path: Message[] = []
  // Imported data may have cycles; a path visits no message twice.
  for (let id = leaf; id !== null; ) {
    const message = byId.get(id)
    if (!message) break
    byId.delete(id)
    path.unshift(message)
    id = message.parent
  }
  return path
}

/** The messages with the same parent, the oldest first; `message` is one of them. */
export function siblingsOf(messages: readonly Message[], { parent, role }: Message): Message[] {
  const siblings = messages.filter((other) => other.parent === parent && other.role === role)
  return siblings.sort((a, b) => a.created - b.created)
}

/** The end of the path through `id` that goes on with the newest child each time. */
export function newestLeaf(messages: readonly Message[], id: string): string {
  const left = new Set(messages)
  let leaf = id
  for (;;) {
    const children = [...left].filter(({ parent }) => parent === leaf)
    const newest = children.sort((a, b) => a.created - b.created).at(-1)
    if (!newest) return leaf
    left.delete(newest)
    leaf = newest.id
  }
}

const TITLE_CHARS = 60

export function titleOf(prompt: string): string {
  const line = prompt.trim().replace(/\s+/g, ' ')
  return line.length <= TITLE_CHARS ? line : `${line.slice(0, TITLE_CHARS - 1).trimEnd()}…`
}

/** 128 random bits. (`randomUUID` needs HTTPS; the page also works over plain HTTP in a local network.) */
export function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
}
