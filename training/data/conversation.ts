import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { createGunzip } from 'node:zlib'
import { AparError } from '../../shared/errors.ts'

export interface Turn {
  prompt: string
  response: string
}

/** Output of every source, input of every later stage. */
export interface Conversation {
  id: string
  dialogs: Turn[]
  /**
   * All conversations of a group (a page, a prompt) are in the same split, train or test. Default: the first
   * prompt.
   */
  group?: string
}

/** An error about a line of a JSONL file, with file and line number. */
export function badLine(file: string, line: number, reason: string): AparError {
  return new AparError('invalid_request', `${file}:${line}: ${reason}`)
}

/**
 * Reads the values of a JSONL file (or .jsonl.gz) one at a time; skips blank lines.
 * @throws AparError `invalid_request` naming file and line when a line is not JSON, or the file cannot be read.
 */
export async function* readJsonl(file: string): AsyncGenerator<{ value: unknown; line: number }> {
  const raw = createReadStream(file)
  const input = file.endsWith('.gz') ? raw.pipe(createGunzip()) : raw
  raw.on('error', (error) => input.destroy(error))
  let line = 0
  try {
    for await (const text of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
      line += 1
      if (text.trim() === '') continue
      let value: unknown
      try {
        value = JSON.parse(text)
      } catch {
        throw badLine(file, line, 'not valid JSON')
      }
      yield { value, line }
    }
  } catch (cause) {
    if (cause instanceof AparError) throw cause
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new AparError('invalid_request', `${file}: cannot be read: ${reason}`, { cause })
  }
}

/** @throws AparError with file and line when a field is missing or of the wrong type. */
export function toConversation(value: unknown, file: string, line: number): Conversation {
  const fail = (reason: string): never => {
    throw badLine(file, line, reason)
  }
  if (!isRecord(value)) return fail('expected an object {id, dialogs}')
  const { id, dialogs, group } = value
  if (typeof id !== 'string' || id === '') return fail('"id" must be a non-empty string')
  if (!Array.isArray(dialogs)) return fail('"dialogs" must be a list of {prompt, response}')
  const turns = dialogs.map((turn: unknown, index): Turn => {
    if (!isRecord(turn) || typeof turn.prompt !== 'string' || typeof turn.response !== 'string') {
      return fail(`"dialogs.${index}" must be {prompt, response}, both strings`)
    }
    return { prompt: turn.prompt, response: turn.response }
  })
  if (group !== undefined && typeof group !== 'string') return fail('"group" must be a string')
  return group === undefined ? { id, dialogs: turns } : { id, dialogs: turns, group }
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
