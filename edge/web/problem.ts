import { AparError, type ErrorCode } from '../../shared/errors.ts'

/** What the user can do about an error. */
const ADVICE: Partial<Record<ErrorCode, string>> = {
  invalid_api_key: 'Press “Key…” to give another one.',
  rate_limit_exceeded: 'Wait a moment and send again.',
  no_gpu_node: 'Start a gpu node, or wait for it to come back, and send again.',
  overloaded: 'Wait a moment and send again.',
  gpu_node_lost: 'The text that arrived is kept. Send again for a whole answer.',
  context_length_exceeded: 'Make the prompt shorter.',
}

/** An error as a sentence for users. */
export function describeProblem(thrown: unknown): string {
  if (!(thrown instanceof AparError)) return 'The server cannot be reached. Is it running?'
  const message = thrown.message.charAt(0).toUpperCase() + thrown.message.slice(1)
  return [`${message.replace(/\.$/, '')} (${thrown.code}).`, ADVICE[thrown.code]].filter(Boolean).join(' ')
}
