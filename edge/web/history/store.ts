import { type DBSchema, type IDBPDatabase, openDB } from 'idb'
import type { Answer, Conversation, Message } from './conversation.ts'

interface Schema extends DBSchema {
  conversations: { key: string; value: Conversation; indexes: { updated: number } }
  messages: { key: string; value: Message; indexes: { conversation: string; state: string } }
}

let opened: Promise<IDBPDatabase<Schema>> | undefined

/** The history of this browser; apar's servers keep none. @throws DOMException when the browser stores nothing. */
function database(): Promise<IDBPDatabase<Schema>> {
  opened ??= openDB<Schema>('apar', 1, {
    upgrade(db) {
      db.createObjectStore('conversations', { keyPath: 'id' }).createIndex('updated', 'updated')
      const messages = db.createObjectStore('messages', { keyPath: 'id' })
      messages.createIndex('conversation', 'conversation')
      messages.createIndex('state', 'recorded.state')
    },
  })
  return opened
}

/** The newest first. */
export async function allConversations(): Promise<Conversation[]> {
  return (await (await database()).getAllFromIndex('conversations', 'updated')).reverse()
}

export async function messagesOf(conversation: string): Promise<Message[]> {
  return await (await database()).getAllFromIndex('messages', 'conversation', conversation)
}

/** Answers that ran when their page was left, or that run in another tab. */
export async function runningAnswers(): Promise<Answer[]> {
  const found = await (await database()).getAllFromIndex('messages', 'state', 'running')
  return found.filter((message) => message.role === 'assistant')
}

export async function messageOf(id: string): Promise<Message | undefined> {
  return await (await database()).get('messages', id)
}

export async function save(conversation: Conversation, messages: readonly Message[] = []): Promise<void> {
  const transaction = (await database()).transaction(['conversations', 'messages'], 'readwrite')
  await Promise.all([
    transaction.objectStore('conversations').put(conversation),
    ...messages.map((message) => transaction.objectStore('messages').put(message)),
    transaction.done,
  ])
}

/** Does nothing when the conversation was deleted meanwhile, perhaps in another tab. */
export async function saveMessage(message: Message): Promise<void> {
  const transaction = (await database()).transaction(['conversations', 'messages'], 'readwrite')
  const exists = await transaction.objectStore('conversations').getKey(message.conversation)
  if (exists !== undefined) await transaction.objectStore('messages').put(message)
  await transaction.done
}

/**
 * Stores a message while its page is left, which hears of nothing any more: without a look at the conversation, and
 * committed at once, or the browser would drop it.
 */
export async function saveOnLeaving(message: Message): Promise<void> {
  const transaction = (await database()).transaction('messages', 'readwrite')
  void transaction.store.put(message)
  transaction.commit()
  await transaction.done
}

export async function remove(conversation: string): Promise<void> {
  const transaction = (await database()).transaction(['conversations', 'messages'], 'readwrite')
  const messages = transaction.objectStore('messages')
  const ids = await messages.index('conversation').getAllKeys(conversation)
  await Promise.all([
    transaction.objectStore('conversations').delete(conversation),
    ...ids.map((id) => messages.delete(id)),
    transaction.done,
  ])
}
