import { AparError, type ErrorCode } from '../../../shared/errors.ts'

/** What failed and what the user can do about it, in words. */
export interface Problem {
  readonly code: ErrorCode | 'unreachable'
  readonly message: string
}

const UNREACHABLE: Problem = { code: 'unreachable', message: 'The server cannot be reached. Is it running?' }

const WORDS: Partial<Record<ErrorCode, string>> = {
  invalid_api_key: 'This key is not valid. Give another one.',
  insufficient_scope: 'This key may not ask for answers. Give another one.',
  model_not_allowed: 'This key may not use this model. Choose another one.',
  model_not_found: 'No gpu node serves this model now. Choose another one.',
  rate_limit_exceeded: 'This key has sent too many requests. Wait a moment.',
  too_many_streams: 'This key has too many answers running. Wait for one to end.',
  insufficient_quota: 'This key has used up its quota.',
  no_gpu_node: 'No gpu node is up. Start one, or wait for it to come back.',
  overloaded: 'All gpu nodes are busy. Wait a moment.',
  gpu_node_lost: 'The connection was lost. The text that arrived is kept.',
  stream_not_found: 'The answer was cut off, and the server no longer has it. The text that arrived is kept.',
  stream_replaced: 'Another tab reads this answer now.',
  context_length_exceeded:
    'The conversation is longer than this model can read. Begin a new one, or shorten it.',
}

export function problemOf(thrown: unknown): Problem {
  return thrown instanceof AparError ? { code: thrown.code, message: thrown.message } : UNREACHABLE
}

/** A sentence for users. A code that has no words here comes with the server's own. */
export function describeProblem({ code, message }: Problem): string {
  if (code === 'unreachable') return message
  const own = message.charAt(0).toUpperCase() + message.slice(1).replace(/\.$/, '')
  return `${WORDS[code] ?? `${own}.`} (${code})`
}
