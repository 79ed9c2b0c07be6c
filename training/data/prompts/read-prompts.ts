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

const id = z.union([z.string().min(1), z.int()]).optional()
const text = z.string().min(1)
const asked = (content: string): ChatMessage[] => [{ role: 'user', content }]

const Line = z.union([
  z.looseObject({ id, prompt: text }).transform(({ id, prompt }) => ({ id, messages: asked(prompt) })),
  z
    .looseObject({ id, messages: z.array(ChatMessage).min(1) })
    .transform(({ id, messages }) => ({ id, messages })),
  // The questions of MT-bench and its like have several turns: the first is asked.
  z
    .looseObject({ question_id: id, turns: z.tuple([text], text) })
    .transform(({ question_id, turns }) => ({ id: question_id, messages: asked(turns[0]) })),
])

/**
 * Reads prompts from JSONL, compressed by gzip or zstd as well: lines `{id?, prompt}`, `{id?, messages}` or `{question_id?, turns}`; other
 * fields are ignored. The id of a line without one is its file's name and its number.
 * @throws AparError `invalid_request` with file and line
 */
export async function* readPrompts(file: string): AsyncGenerator<Prompt> {
  for await (const { value, line } of readJsonValues(file)) {
    const { success, data } = Line.safeParse(value)
    if (!success) throw badLine(file, line, 'expected {prompt}, {messages} or {turns}')
    if (data.messages.at(-1)?.role !== 'user')
      throw badLine(file, line, "the last message must be the user's")
    yield { id: String(data.id ?? `${basename(file)}:${line}`), messages: data.messages }
  }
}
