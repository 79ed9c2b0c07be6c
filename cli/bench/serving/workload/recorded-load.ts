import { createInterface } from 'node:readline'
import { Readable } from 'node:stream'
import { badLine } from '../../../../training/data/conversation.ts'
import { fileBytes } from '../../../../training/data/input/bytes.ts'
import { UserError } from '../../../explain.ts'

/** A request of a recorded load. */
export interface RecordedRequest {
  /** In ms after the first one. */
  readonly at: number
  readonly inputTokens: number
  readonly outputTokens: number
}

/** Names of the columns: those of the Azure LLM inference traces, and of BurstGPT. */
const COLUMNS = [
  { time: 'timestamp', input: 'contexttokens', output: 'generatedtokens' },
  { time: 'timestamp', input: 'request tokens', output: 'response tokens' },
] as const

/**
 * The first `limit` requests of a CSV file (.gz and .zst, too) with the columns of the public Azure LLM inference traces
 * (`TIMESTAMP,ContextTokens,GeneratedTokens`) or of BurstGPT (`Timestamp,Model,Request tokens,Response tokens,…`, times in
 * seconds), in the order of time. Requests without an answer are left out: in BurstGPT they have failed.
 * @throws AparError `invalid_request` with file and line. @throws UserError `invalid_option` for another file.
 */
export async function readRecordedLoad(file: string, limit: number): Promise<RecordedRequest[]> {
  const lines = createInterface({
    input: Readable.from(fileBytes(file, file, () => {})),
    crlfDelay: Infinity,
  })
  let columns: { time: number; input: number; output: number } | undefined
  const requests: RecordedRequest[] = []
  let line = 0
  for await (const text of lines) {
    line++
    if (text.trim() === '') continue
    // No field of these files has a comma or a quotation mark.
    const fields = text.split(',')
    if (!columns) {
      columns = columnsOf(fields, file)
      continue
    }
    const at = timeOf(fields[columns.time] ?? '')
    const [inputTokens, outputTokens] = [columns.input, columns.output].map((at) => countOf(fields[at]))
    if (at === undefined) throw badLine(file, line, 'the time is neither a date nor a number of seconds')
    if (inputTokens === undefined || outputTokens === undefined)
      throw badLine(file, line, 'numbers of tokens are whole numbers')
    if (inputTokens > 0 && outputTokens > 0) requests.push({ at, inputTokens, outputTokens })
    if (requests.length === limit) break
  }
  if (requests.length === 0) throw new UserError('invalid_option', `--arrivals: ${file} has no requests`)
  requests.sort((a, b) => a.at - b.at)
  const first = requests[0]?.at ?? 0
  return requests.map((request) => ({ ...request, at: request.at - first }))
}

function columnsOf(head: readonly string[], file: string) {
  const names = head.map((name) => name.trim().toLowerCase())
  for (const { time, input, output } of COLUMNS) {
    const found = { time: names.indexOf(time), input: names.indexOf(input), output: names.indexOf(output) }
    if (Object.values(found).every((at) => at >= 0)) return found
  }
  const what = `--arrivals: ${file} has neither the columns TIMESTAMP, ContextTokens, GeneratedTokens nor Timestamp, Request tokens, Response tokens`
  throw new UserError('invalid_option', what)
}

/** In ms. Dates have up to seven decimals of a second, and are in UTC unless they say otherwise. */
function timeOf(text: string): number | undefined {
  const trimmed = text.trim()
  if (/^\d+(\.\d+)?$/.test(trimmed)) return Number(trimmed) * 1000
  const [, day, time, fraction = '', zone = 'Z'] =
    /^(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)?$/.exec(trimmed) ?? []
  const seconds = Date.parse(`${day}T${time}${zone}`)
  return Number.isNaN(seconds) ? undefined : seconds + 1000 * Number(`0${fraction}`)
}

function countOf(text: string | undefined): number | undefined {
  return text !== undefined && /^\s*\d+(\.0+)?\s*$/.test(text) ? Number(text) : undefined
}
