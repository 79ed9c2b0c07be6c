import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { z } from 'zod'
import { AparError } from '../../../shared/errors.ts'
import { badLine } from '../conversation.ts'

const Text = z.object({ text: z.string() })
/** A segment of a branch's own text, and the branch that forks at its end. */
export type RecordedPart = z.infer<typeof Text> & { detail?: RecordedPart[] | undefined }
const RecordedPart: z.ZodType<RecordedPart> = Text.extend({
  detail: z.lazy(() => z.array(RecordedPart)).optional(),
})

export const EXAMPLE_KINDS = ['list', 'paragraphs', 'bullets', 'headings', 'unstructured'] as const
export type ExampleKind = (typeof EXAMPLE_KINDS)[number]

/** A line of examples.jsonl: a conversation that was kept. */
export const ExampleRecord = z.looseObject({
  id: z.string(),
  kind: z.enum(EXAMPLE_KINDS),
  split: z.enum(['train', 'test']),
  prompt: z.string().optional(),
  parts: z.array(RecordedPart).optional(),
  turns: z.array(z.looseObject({ prompt: z.string(), response: z.string() })).optional(),
})
export type ExampleRecord = z.infer<typeof ExampleRecord>

/** A line of refused.jsonl: a conversation that was left out. */
export const RefusedRecord = z.looseObject({
  id: z.string(),
  rule: z.string(),
  reason: z.string(),
  line: z.int().optional(),
})
export type RefusedRecord = z.infer<typeof RefusedRecord>

/**
 * The records of a JSONL file, one at a time, with their indexes.
 * @param mention only lines that contain this text are parsed and given out.
 * @throws AparError `invalid_request` with file and line when a line is not such a record, or the file cannot be read.
 */
export async function* readRecords<T>(
  file: string,
  schema: z.ZodType<T>,
  mention = '',
): AsyncGenerator<{ record: T; index: number }> {
  const input = createReadStream(file)
  const lines = createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })
  let index = -1
  try {
    for await (const line of lines) {
      index += 1
      if (line === '' || !line.includes(mention)) continue
      yield { record: parse(file, index + 1, line, schema), index }
    }
  } catch (cause) {
    if (cause instanceof AparError) throw cause
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new AparError('invalid_request', `${file}: cannot be read: ${reason}`, { cause })
  } finally {
    lines.close()
    input.destroy()
  }
}

function parse<T>(file: string, line: number, text: string, schema: z.ZodType<T>): T {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw badLine(file, line, 'not valid JSON')
  }
  const { data, error } = schema.safeParse(value)
  if (data !== undefined) return data
  const [issue] = error?.issues ?? []
  throw badLine(file, line, `${issue?.path.join('.') || 'the line'}: ${issue?.message}`)
}
