import { Recording } from '../answer/recording.ts'
import { type Answer, type Conversation, type Message, type Prompt, pathTo, titleOf } from './conversation.ts'
import { FILE_FORMAT } from './file-format.ts'

/** A conversation as a file. Answers have their events with times, so that their time lines can be opened again. */
export function toJson(conversation: Conversation, messages: readonly Message[]): string {
  return `${JSON.stringify({ format: FILE_FORMAT, version: 1, conversation, messages }, undefined, 1)}\n`
}

/**
 * One answer and its prompt as a file of the same kind, to be opened again or passed on: its branches with their times,
 * and the engine's steps where they were recorded.
 */
export function toTrace(answer: Answer, messages: readonly Message[]): string {
  const { recorded, created } = answer
  const prompt = promptOf(answer, messages)
  const settings = { parallel: recorded.parallel, model: recorded.model }
  const title = titleBefore(answer, messages)
  const conversation = {
    id: answer.conversation,
    title,
    created,
    updated: created,
    settings,
    leaf: answer.id,
  }
  const alone = { ...answer, parent: prompt?.id ?? null }
  return toJson(conversation, prompt ? [{ ...prompt, parent: null }, alone] : [alone])
}

/** A title of one answer: what it answers. */
export function titleBefore(answer: Answer, messages: readonly Message[]): string {
  const prompt = promptOf(answer, messages)
  return prompt ? titleOf(prompt.text) : answer.recorded.model
}

function promptOf({ parent }: Answer, messages: readonly Message[]): Prompt | undefined {
  return messages.find((message): message is Prompt => message.role === 'user' && message.id === parent)
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
