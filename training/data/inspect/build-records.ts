import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { z } from 'zod'
import { AparError } from '../../../shared/errors.ts'
import { badLine } from '../conversation.ts'
import { SPLITS } from '../pipeline/batch.ts'
import type { ExampleLine } from '../pipeline/processor.ts'

export const SAMPLE_KINDS = [
  'list',
  'paragraphs',
  'bullets',
  'headings',
  'unstructured',
] as const satisfies readonly ExampleLine['kind'][]
export type SampleKind = ExampleLine['kind']

/** What is read of a line of examples.jsonl: a conversation of which something was kept. */
export const ExampleRecord = z.object({
  id: z.string(),
  kind: z.enum(SAMPLE_KINDS),
  split: z.enum(SPLITS),
})
export type ExampleRecord = z.infer<typeof ExampleRecord>

/** A line of refused.jsonl: a conversation that was left out, and where it was in the input. */
export const RefusedRecord = z.object({
  id: z.string(),
  rule: z.string(),
  reason: z.string(),
  file: z.string().optional(),
  line: z.int().optional(),
})
export type RefusedRecord = z.infer<typeof RefusedRecord>

/**
 * The records of a JSONL file, one at a time.
 * @throws AparError `invalid_request` with file and line when a line is not such a record, or the file cannot be read.
 */
export async function* readRecords<T>(file: string, schema: z.ZodType<T>): AsyncGenerator<T> {
  const input = createReadStream(file)
  const lines = createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })
  let number = 0
  try {
    for await (const line of lines) {
      number += 1
      if (line !== '') yield parse(file, number, line, schema)
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

function parse<T>(file: string, number: number, line: string, schema: z.ZodType<T>): T {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    throw badLine(file, number, 'not valid JSON')
  }
  const { data, error } = schema.safeParse(value)
  if (data !== undefined) return data
  const [issue] = error?.issues ?? []
  throw badLine(file, number, `${issue?.path.join('.') || 'the line'}: ${issue?.message}`)
}
