import { AparError } from '../../shared/errors.ts'

interface Length {
  readonly tokens: number
  /** The prompt was not encoded: it has at least so many. */
  readonly atLeast?: boolean
}

/** In the words by which clients of OpenAI's and Anthropic's APIs tell this error from others, to shorten the prompt. */
export function promptTooLong(
  maxTokens: number,
  what: 'messages' | 'prompt',
  { tokens, atLeast = false }: Length,
): AparError {
  const maximum = `This model's maximum context length is ${maxTokens + 1} tokens`
  const result = `your ${what} resulted in ${tokens} tokens${atLeast ? ' or more' : ''}`
  const message = `${maximum}. However, ${result} (prompt is too long: ${tokens} tokens > ${maxTokens} maximum).`
  return new AparError('context_length_exceeded', message, { param: 'messages' })
}
