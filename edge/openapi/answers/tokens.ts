import { z } from 'zod'
import { TokenizerInfo as OfNode } from '../../../shared/protocol/token-query.ts'
import { count } from './completions.ts'

export const TokenCount = z.strictObject({ input_tokens: count })

export const ResponseTokenCount = TokenCount.extend({ object: z.literal('response.input_tokens') })

export const Tokens = z.strictObject({
  count,
  max_model_len: count,
  tokens: z.array(count),
  token_strs: z.array(z.string()).nullable(),
})

export const Text = z.strictObject({ prompt: z.string() })

export const TokenizerInfo = OfNode.extend({ model_max_length: count })
