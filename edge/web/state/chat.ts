import { listModels } from '../../../client/models.ts'
import { AparError } from '../../../shared/errors.ts'
import {
  type Answer,
  type Conversation,
  type Message,
  newestLeaf,
  newId,
  type Prompt,
  pathTo,
  type Settings,
  titleOf,
} from '../history/conversation.ts'
import { rememberSettings } from '../history/settings.ts'
import * as store from '../history/store.ts'
import { requestFor } from '../request.ts'
import { resumeAnswer, running, startAnswer } from './answers.ts'
import { apiKey } from './api-key.ts'
import { problemOf } from './problem.ts'
import {
  conversations,
  current,
  draft,
  keyDialog,
  messages,
  model,
  models,
  notice,
  sidebar,
  trouble,
  view,
} from './state.ts'

/** Fills the list of models. Opens the key dialog when the key is missing or refused. */
export async function loadModels(): Promise<void> {
  if (!apiKey.value) {
    keyDialog.value = true
    return
  }
  try {
    models.value = await listModels(location.origin, apiKey.value)
    if (models.value.length === 0) throw new AparError('no_gpu_node', 'no gpu node is up')
    trouble.value = undefined
    keyDialog.value = false
  } catch (thrown) {
    trouble.value = problemOf(thrown)
    keyDialog.value ||= trouble.value.code === 'invalid_api_key'
  }
}

export async function loadHistory(): Promise<void> {
  try {
    conversations.value = await store.allConversations()
    for (const message of await store.runningAnswers()) resumeAnswer(message)
  } catch {
    notice.value = 'This browser stores no history: a reload loses the conversation.'
  }
}

/** The answer that grows in the conversation that is shown. */
export function answeringNow() {
  const [answering] = messages.value.flatMap(({ id }) => running.value.get(id) ?? [])
  return answering
}

/** Asks for an answer to a new prompt behind `parent`. False when that is not possible now. */
export async function ask(text: string, parent: string | null): Promise<boolean> {
  if (text.trim() === '' || !(await ready())) return false
  const prompt: Prompt = { ...newMessage(parent), role: 'user', text: text.trim() }
  const first = messages.value.length === 0
  if (first) current.value = { ...current.value, title: titleOf(text) }
  messages.value = [...messages.value, prompt]
  answer(prompt)
  return true
}

/** A further answer to the same prompt. */
export async function regenerate({ parent }: Answer): Promise<void> {
  const prompt = messages.value.find(({ id }) => id === parent)
  if (prompt && (await ready())) answer(prompt)
}

/** Shows the path through `message`. */
export function choose(message: Message): void {
  change({ leaf: newestLeaf(messages.value, message.id) })
}

export function setSettings(settings: Partial<Settings>): void {
  const changed = { ...current.value.settings, ...settings }
  rememberSettings(changed)
  change({ settings: changed })
}

export function rename(conversation: Conversation, title: string): void {
  const trimmed = title.trim()
  if (trimmed === '') return
  const changed = { ...conversation, title: trimmed }
  if (current.value.id === conversation.id) current.value = changed
  keep(changed)
}

export async function removeConversation({ id }: Conversation): Promise<void> {
  if (current.value.id === id) {
    answeringNow()?.stop()
    newChat()
  }
  await store.remove(id)
  conversations.value = conversations.value.filter((other) => other.id !== id)
}

export async function addConversation(conversation: Conversation, imported: Message[]): Promise<void> {
  await store.save(conversation, imported)
  conversations.value = [conversation, ...conversations.value]
  await openConversation(conversation.id)
}

export function newChat(): void {
  current.value = draft()
  messages.value = []
  shown('')
}

export async function openConversation(id: string): Promise<void> {
  const found = conversations.value.find((conversation) => conversation.id === id)
  if (!found) return newChat()
  const stored = await store.messagesOf(id)
  current.value = found
  messages.value = stored.map((message) => {
    const answering = running.value.get(message.id)
    return answering && message.role === 'assistant'
      ? { ...message, recorded: answering.recorded() }
      : message
  })
  shown(`#chat=${id}`)
  for (const message of stored)
    if (message.role === 'assistant' && message.recorded.state === 'running') resumeAnswer(message)
}

/** Shows the conversation that the address names. */
export async function openFromAddress(): Promise<void> {
  const id = new URLSearchParams(location.hash.slice(1)).get('chat')
  if (id && id !== current.value.id) await openConversation(id)
  else if (!id && messages.value.length > 0) newChat()
}

function answer(prompt: Message): void {
  const path = pathTo(messages.value, prompt.id)
  const request = requestFor(path, current.value.settings, model.value)
  const recorded = {
    model: model.value,
    parallel: current.value.settings.parallel,
    started: Date.now(),
    state: 'running' as const,
    elapsed_ms: 0,
    events: [],
    after: -1,
  }
  const message: Answer = { ...newMessage(prompt.id), role: 'assistant', recorded }
  messages.value = [...messages.value, message]
  change({ leaf: message.id, updated: Date.now() }, prompt, message)
  startAnswer(message, request)
  shown(`#chat=${current.value.id}`)
}

/** There are a key and a model, and no other answer grows here. */
async function ready(): Promise<boolean> {
  if (answeringNow()) return false
  if (model.value === '' || trouble.value) await loadModels()
  return model.value !== '' && trouble.value === undefined
}

function newMessage(parent: string | null) {
  return { id: newId(), conversation: current.value.id, parent, created: Date.now() }
}

function change(fields: Partial<Conversation>, ...added: Message[]): void {
  current.value = { ...current.value, ...fields }
  if (messages.value.length > 0) keep(current.value, added)
}

function keep(conversation: Conversation, added: readonly Message[] = []): void {
  const others = conversations.value.filter(({ id }) => id !== conversation.id)
  conversations.value = [conversation, ...others].sort((a, b) => b.updated - a.updated)
  store.save(conversation, added).catch(() => {
    notice.value = 'This browser stores no history: a reload loses the conversation.'
  })
}

function shown(hash: string): void {
  sidebar.value = false
  view.value = 'chat'
  const address = location.pathname + hash
  if (location.pathname + location.hash !== address) history.pushState(null, '', address)
}
