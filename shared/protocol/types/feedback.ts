import type { ChatMessage } from './request.ts'

export type Vote = 'up' | 'down' | 'flag'

/** What a user thinks of an answer. The texts are sent only where the user has agreed to it. */
export interface Feedback {
  /** Names the answer, chosen by the client: letters, digits and hyphens, at most 64. A second vote replaces the first. */
  id: string
  vote: Vote
  /** In the user's words, at most 2,000 characters. */
  reason?: string | undefined
  /** The model that gave the answer. */
  model: string
  /** Whether the answer was allowed to fork. */
  parallel?: boolean | undefined
  /** The conversation, the answer last; at most 32,768 characters together. */
  messages?: ChatMessage[] | undefined
}
