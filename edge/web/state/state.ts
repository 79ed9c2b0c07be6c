import { computed, signal } from '@preact/signals'
import type { Conversation, Message } from '../history/conversation.ts'
import { newId, pathTo } from '../history/conversation.ts'
import { lastSettings } from '../history/settings.ts'
import type { Problem } from './problem.ts'

/** A new conversation; it is stored with its first prompt. */
export function draft(): Conversation {
  const now = Date.now()
  return { id: newId(), title: 'New chat', created: now, updated: now, settings: lastSettings(), leaf: null }
}

/** All stored conversations, the newest first. */
export const conversations = signal<readonly Conversation[]>([])
/** The one that is shown, with all its messages. */
export const current = signal<Conversation>(draft())
export const messages = signal<readonly Message[]>([])
export const path = computed(() => pathTo(messages.value, current.value.leaf))

export const models = signal<readonly string[]>([])
/** Why there are no models, or why something else than an answer failed. */
export const trouble = signal<Problem | undefined>(undefined)
export const notice = signal('')

export type View = 'chat' | 'race'
export const view = signal<View>('chat')
export const keyDialog = signal(false)
export const sidebar = signal(false)
/** Text of branches has their colours. */
export const coloured = signal(true)

/** The model of the next request; '' while none is known. */
export const model = computed(() => {
  const wanted = current.value.settings.model
  return wanted !== undefined && models.value.includes(wanted) ? wanted : (models.value[0] ?? '')
})

/** The demo model knows command-line tools only. */
const DEMO_EXAMPLES = ['How do I use tar?', 'How do I use rsync?', 'What can I do with grep?']
const EXAMPLES = [
  'Give me five tips for sleeping better.',
  'Give five reasons to learn a second language.',
  'How do I prepare for a job interview?',
]
/** Prompts to begin with. */
export const examples = computed(() => (model.value === 'demo' ? DEMO_EXAMPLES : EXAMPLES))

/** What screen readers are told: the beginning and the end of an answer, not its growth. */
export const announcement = signal('')
