import type { GenerateRequest } from '../../shared/protocol/request.ts'
import type { TokenBytes } from '../text/token-bytes.ts'
import type { ModelReasoning, ReasoningFormat } from './reasoning-format.ts'

/**
 * Where an answer begins: `inside` of reasoning that the prompt has opened, `before` reasoning that the model may write,
 * or `behind` reasoning that the prompt has closed, as templates do where it is switched off.
 */
export interface AnswerStart {
  readonly format: ReasoningFormat
  readonly start: 'inside' | 'before' | 'behind'
}

/** Tokens that are looked at: a marker and the white space behind it, also where each of their bytes is a token. */
const TAIL_TOKENS = 64

/**
 * undefined for an answer whose text has no reasoning, or is not taken apart. `bytes`: with the texts of markers that are
 * tokens.
 */
export function answerStart(
  request: Pick<GenerateRequest, 'messages' | 'raw_prompt' | 'continue_final_message' | 'separate_reasoning'>,
  prompt: Int32Array,
  bytes: TokenBytes,
  model: ModelReasoning | undefined,
): AnswerStart | undefined {
  if (!model || !request.separate_reasoning || request.raw_prompt) return undefined
  const { format } = model
  if (request.continue_final_message) {
    const begun = request.messages.at(-1)?.content ?? ''
    if (begun.lastIndexOf(format.open) > begun.lastIndexOf(format.close)) return { format, start: 'inside' }
    if (begun.trim() !== '') return undefined
  }
  const end = Buffer.concat(
    [...prompt.slice(-TAIL_TOKENS)].map((token) => bytes.of(token) ?? Buffer.alloc(0)),
  )
    .toString()
    .trimEnd()
  if (end.endsWith(format.open)) return { format, start: 'inside' }
  return { format, start: end.endsWith(format.close) ? 'behind' : 'before' }
}
