import { UserError } from '../../../explain.ts'
import { ReceivedAnswer } from '../target/answer.ts'
import type { BenchRequest, Target } from '../target/target.ts'
import { randomText } from './random-text.ts'
import type { WordsOf } from './workload.ts'

const FEW = 20
const MANY = 120

/**
 * How many random words make a prompt of so many tokens, the chat template included: by the target's own count for two
 * prompts, because nobody else knows its vocabulary.
 * @throws RequestFailed, UserError `invalid_option` for a target that counts no tokens.
 */
export async function calibrate(target: Target, request: Omit<BenchRequest, 'messages'>): Promise<WordsOf> {
  const few = await promptTokens(target, request, FEW)
  const many = await promptTokens(target, request, MANY)
  const perWord = (many - few) / (MANY - FEW)
  const template = few - FEW * perWord
  return (tokens) => Math.max(1, Math.round((tokens - template) / perWord))
}

async function promptTokens(
  target: Target,
  request: Omit<BenchRequest, 'messages'>,
  words: number,
): Promise<number> {
  const answer = new ReceivedAnswer()
  const messages = [{ role: 'user' as const, content: randomText(words, words) }]
  await target.ask({ ...request, messages, maxTokens: 1, fixedLength: false }, answer)
  if (answer.usage && answer.usage.promptTokens > 0) return answer.usage.promptTokens
  const what = 'the server does not say how many tokens a prompt has: prompts of given lengths cannot be made'
  throw new UserError('invalid_option', what)
}
