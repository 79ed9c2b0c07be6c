import { type FileHandle, open } from 'node:fs/promises'
import { z } from 'zod'
import { AparError } from '../../../shared/errors.ts'
import { ChatMessage } from '../../../shared/protocol/request.ts'
import { badLine } from '../conversation.ts'
import { readJsonValues } from '../input/json-values.ts'

/** How answers were drawn: one file has answers of one kind only. */
export const Sampling = z.strictObject({
  model: z.string(),
  dtype: z.string(),
  temperature: z.number(),
  top_p: z.number(),
  max_tokens: z.int(),
  seed: z.int(),
  system: z.string().optional(),
  dry_multiplier: z.number().optional(),
})
export type Sampling = z.infer<typeof Sampling>

/** `repeats`: stopped because the text repeated itself. Only an answer that ended with `stop` is whole. */
export const FinishReason = z.enum(['stop', 'length', 'repeats'])

/** A line of the file. A chat has `messages`, which end with the answer; a single question `prompt` and `response`. */
export const Answer = z.object({
  id: z.string(),
  prompt: z.string().optional(),
  response: z.string().optional(),
  messages: z.array(ChatMessage).optional(),
  finish_reason: FinishReason,
  tokens: z.int(),
  sampling: Sampling,
})
export type Answer = z.infer<typeof Answer>

const NEWLINE = 0x0a

/**
 * Answers as JSONL, appended one line at a time. Whatever ends the program, the lines before are whole: a last line
 * without its end is removed when the file is opened again.
 */
export class AnswersFile {
  /** Ids of the answers that the file had when it was opened. */
  readonly present: ReadonlySet<string>
  readonly #handle: FileHandle
  #writing: Promise<unknown> = Promise.resolve()

  private constructor(handle: FileHandle, present: ReadonlySet<string>) {
    this.#handle = handle
    this.present = present
  }

  /** @throws AparError `invalid_request` when the file has other lines than answers with this sampling. */
  static async open(path: string, sampling: Sampling): Promise<AnswersFile> {
    const handle = await open(path, 'a+')
    try {
      await handle.truncate(await wholeLines(handle))
      return new AnswersFile(handle, await idsOf(path, sampling))
    } catch (error) {
      await handle.close()
      throw error
    }
  }

  /** Resolves when the line is in the file. */
  async add(answer: Answer): Promise<void> {
    const line = `${JSON.stringify(answer)}\n`
    this.#writing = this.#writing.then(() => this.#handle.appendFile(line))
    await this.#writing
  }

  async close(): Promise<void> {
    await this.#handle.sync()
    await this.#handle.close()
  }
}

/** Bytes up to the last line's end. */
async function wholeLines(handle: FileHandle): Promise<number> {
  const buffer = Buffer.alloc(1 << 16)
  for (let end = (await handle.stat()).size; end > 0; ) {
    const start = Math.max(0, end - buffer.length)
    await handle.read(buffer, 0, end - start, start)
    const at = buffer.subarray(0, end - start).lastIndexOf(NEWLINE)
    if (at !== -1) return start + at + 1
    end = start
  }
  return 0
}

async function idsOf(path: string, sampling: Sampling): Promise<Set<string>> {
  const ids = new Set<string>()
  const wanted = JSON.stringify(Sampling.parse(sampling))
  for await (const { value, line } of readJsonValues(path)) {
    const { success, data } = Answer.safeParse(value)
    if (!success) throw badLine(path, line, 'no answer of apar data answer')
    if (JSON.stringify(data.sampling) !== wanted) {
      const other = `answers drawn otherwise (${JSON.stringify(data.sampling)}, now ${wanted}): choose another file`
      throw new AparError('invalid_request', `${path}:${line}: ${other}`)
    }
    ids.add(data.id)
  }
  return ids
}
