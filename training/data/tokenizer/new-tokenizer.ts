import { readFile } from 'node:fs/promises'
import { AparError } from '../../../shared/errors.ts'
import { turnText } from '../chat.ts'
import { badLine } from '../conversation.ts'
import { extractConversation } from '../extract/extract.ts'
import { hasLoneSurrogate, toConversation, withoutEmptyTurns } from '../input/conversations.ts'
import { readJsonValues } from '../input/json-values.ts'
import type { InputFile } from '../pipeline/batches.ts'
import { splitOf } from '../pipeline/processor.ts'
import { CHILD, FORK } from '../rows.ts'
import { trainTokenizer } from './train.ts'

/** The tokenizer of a new model. */
export interface NewTokenizer {
  /** An existing tokenizer.json; without it one is trained on the training split. */
  file?: string
  /** Vocabulary size of a trained tokenizer; default 4096. */
  vocabSize?: number
}

/** @throws AparError when the file is not readable, or spm_train is missing or fails. */
export async function newTokenizer(
  { file, vocabSize }: NewTokenizer,
  files: readonly InputFile[],
  split: { seed: number; testShare: number },
): Promise<{ json: string; name: string }> {
  if (file !== undefined) return { json: await readTokenizer(file), name: file }
  const json = await trainTokenizer({
    texts: trainingTexts(files, split),
    added: [FORK, CHILD],
    ...(vocabSize === undefined ? {} : { vocabSize }),
  })
  return { json, name: 'the trained tokenizer' }
}

async function readTokenizer(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new AparError('invalid_request', `${file}: ${reason}`, { cause })
  }
}

/** Prompts and answers of the training split that are not left out. */
async function* trainingTexts(
  files: readonly InputFile[],
  { seed, testShare }: { seed: number; testShare: number },
): AsyncGenerator<string> {
  for (const { path, name } of files) {
    for await (const { value, line } of readJsonValues(path, { name })) {
      const fail = (reason: string): never => {
        throw badLine(name, line, reason)
      }
      const conversation = withoutEmptyTurns(toConversation(value, String(line), fail))
      if (hasLoneSurrogate(conversation)) continue
      const [first] = conversation.dialogs
      if (!first || splitOf(conversation.group ?? first.prompt, seed, testShare) === 'test') continue
      const extraction = extractConversation(conversation)
      if (!('structure' in extraction) && !extraction.keep) continue
      const turns = 'structure' in extraction ? [first] : conversation.dialogs
      for (const { prompt, response } of turns) yield turnText(prompt, response)
    }
  }
}
