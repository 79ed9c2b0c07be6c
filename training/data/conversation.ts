import { AparError } from '../../shared/errors.ts'

export interface Turn {
  prompt: string
  response: string
}

/** Output of every source, input of every later stage. */
export interface Conversation {
  id: string
  dialogs: Turn[]
  /** The message before the first turn, when there is one. */
  system?: string
  /**
   * All conversations of a group (a page, a prompt) are in the same split, train or test. Default: the first
   * prompt.
   */
  group?: string
}

/** An error about a place in an input file, with file and line number. */
export function badLine(file: string, line: number, reason: string): AparError {
  return new AparError('invalid_request', `${file}:${line}: ${reason}`)
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
