import { StartupError } from '../gpu-node/startup-error.ts'
import { AparError } from '../shared/errors.ts'

/** One line for a person. Only what nobody foresaw shows where it came from. */
export function explain(error: unknown): string {
  if (error instanceof StartupError || error instanceof UserError) return error.message
  if (error instanceof AparError) {
    const retry = error.retryAfterSeconds ? ` (try again in ${error.retryAfterSeconds} s)` : ''
    return `${error.message}${retry}`
  }
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}

/** What the person at the keyboard can put right: shown as one line. */
export class UserError extends Error {
  override readonly name = 'UserError'
}
