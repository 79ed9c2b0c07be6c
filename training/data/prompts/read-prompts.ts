import { basename } from 'node:path'
import { z } from 'zod'
import { ChatMessage } from '../../../shared/protocol/request.ts'
import { badLine } from '../conversation.ts'
import { readJsonValues } from '../input/json-values.ts'

/** A prompt to be answered. */
export interface Prompt {
  readonly id: string
  readonly messages: readonly ChatMessage[]
}

const givenId = z.union([z.string().min(1), z.int()])
const id = givenId.optional()
const text = z.string().min(1)
const asked = (content: string): ChatMessage[] => [{ role: 'user', content }]

/** The first question of a conversation. */
const HUMAN = new Set(['human', 'user', 'prompter'])

const Line = z.union([
  z.looseObject({ id, prompt: text }).transform(({ id, prompt }) => ({ id, messages: asked(prompt) })),
  z
    .looseObject({ id, messages: z.array(ChatMessage).min(1) })
    .transform(({ id, messages }) => ({ id, messages })),
  // The questions of MT-bench and its like have several turns: the first is asked.
  z
    .looseObject({ question_id: id, turns: z.tuple([text], text) })
    .transform(({ question_id, turns }) => ({ id: question_id, messages: asked(turns[0]) })),
  // The first questions of FastChat had one turn. Text without an id is no question, but what models are trained on.
  z
    .looseObject({ question_id: givenId, text })
    .transform(({ question_id, text }) => ({ id: question_id, messages: asked(text) })),
  // apar_testset.json of `apar data build`, as the reference's scripts write it.
  z
    .looseObject({ id, dialog: z.array(z.looseObject({ prompt: text })).min(1) })
    .transform(({ id, dialog }) => ({ id, messages: asked(dialog[0]?.prompt ?? '') })),
  // ShareGPT. Some of its conversations begin with an answer, or have no question at all.
  z
    .looseObject({ id, conversations: z.array(z.looseObject({ from: z.string(), value: z.string() })) })
    .transform(({ id, conversations }) => {
      const question = conversations.find(({ from, value }) => HUMAN.has(from) && value !== '')
      return { id, messages: question ? asked(question.value) : [] }
    }),
])

/**
 * Reads prompts from JSONL or a JSON array, compressed by gzip or zstd as well: `{id?, prompt}`, `{id?, messages}`,
 * `{question_id?, turns}`, `{question_id, text}`, `{id?, dialog: [{prompt}]}` or `{id?, conversations: [{from, value}]}`;
 * other fields are ignored. The id of a record without one is its file's name and its line.
 * @throws AparError `invalid_request` with file and line
 */
export async function* readPrompts(file: string): AsyncGenerator<Prompt> {
  for await (const { value, line } of readJsonValues(file)) {
    const { success, data } = Line.safeParse(value)
    if (!success)
      throw badLine(file, line, 'expected {prompt}, {messages}, {turns}, {dialog} or {conversations}')
    if (data.messages.length === 0) continue
    if (data.messages.at(-1)?.role !== 'user')
      throw badLine(file, line, "the last message must be the user's")
    yield { id: String(data.id ?? `${basename(file)}:${line}`), messages: data.messages }
  }
}
