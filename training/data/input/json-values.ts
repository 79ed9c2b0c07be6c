import { isUtf8 } from 'node:buffer'
import { badLine } from '../conversation.ts'
import { fileBytes } from './bytes.ts'
import { type RawRecord, splitRecords } from './records.ts'

export interface JsonValue {
  value: unknown
  line: number
  /** The text of the value. */
  bytes: Buffer
  isUtf8: boolean
}

/**
 * The values of a file one at a time: of JSON lines, or of one array; gzip and zstd as well. `name`: of the file in
 * messages. `onBom` hears of a byte order mark.
 * @throws AparError `invalid_request` naming file and line when a value is not JSON, or the file cannot be read.
 */
export async function* readJsonValues(
  path: string,
  { name = path, onBom = () => {} }: { name?: string; onBom?: () => void } = {},
): AsyncGenerator<JsonValue> {
  for await (const record of splitRecords(fileBytes(path, name, onBom), name)) {
    yield { ...record, value: parsed(record, name), isUtf8: isUtf8(record.bytes) }
  }
}

function parsed({ bytes, line }: RawRecord, file: string): unknown {
  try {
    return JSON.parse(bytes.toString())
  } catch {
    throw badLine(file, line, 'not valid JSON')
  }
}
