import type { Checkpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import { PromptEncoder } from '../../gpu-node/text/prompt-encoder.ts'
import type { Prompts } from '../../gpu-node/text/prompt-pool.ts'
import { tokenBytes } from '../../gpu-node/text/token-bytes.ts'
import { TokenQueries } from '../../gpu-node/text/token-queries.ts'

/** Encodes prompts at once, in this thread, for tests in which the order of events matters. */
export function inlinePrompts({ text }: Pick<Checkpoint, 'text'>): Prompts {
  const encoder = new PromptEncoder(text)
  const queries = new TokenQueries(text, encoder)
  return {
    bytes: tokenBytes(text),
    dropsLeadingSpace: encoder.dropsLeadingSpace,
    waiting: 0,
    encode: async (prompt, maxTokens) => encoder.encodePrompt(prompt, maxTokens),
    answer: async (query) => queries.answer(query),
    close: async () => {},
  }
}
