import { badLine, type Conversation, isRecord, readJsonl, toConversation } from '../conversation.ts'

/** Reads the user's own data: a JSONL file (or .jsonl.gz) of `{id, dialogs: [{prompt, response}], group?}`. */
export async function* jsonlConversations(file: string): AsyncGenerator<Conversation> {
  for await (const { value, line } of readJsonl(file)) yield toConversation(value, file, line)
}

export interface AnswersOptions {
  /** Maximum number of answers per prompt; the first ones in the file are used. Default 1. */
  perPrompt?: number
  /** Longer answers are left out; default 1500 characters. */
  maxCharacters?: number
}

/**
 * Reads single-turn model answers, `{prompt, response}` per line (Open-Assistant's oasst-model-eval, Apache-2.0): real
 * paragraphs and lists. Grouped by prompt, because many answers have the same one.
 */
export async function* answerConversations(
  file: string,
  options: AnswersOptions = {},
): AsyncGenerator<Conversation> {
  const kept = new Map<string, number>()
  for await (const { value, line } of readJsonl(file)) {
    if (!isRecord(value) || typeof value.prompt !== 'string' || typeof value.response !== 'string') {
      throw badLine(file, line, 'expected {prompt, response}, both strings')
    }
    const { prompt, response } = value
    const count = kept.get(prompt) ?? 0
    if (count >= (options.perPrompt ?? 1) || response.length > (options.maxCharacters ?? 1500)) continue
    kept.set(prompt, count + 1)
    yield { id: `answer/${line}`, group: `answer/${prompt}`, dialogs: [{ prompt, response }] }
  }
}
