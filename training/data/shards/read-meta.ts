import { z } from 'zod'
import { AparError } from '../../../shared/errors.ts'
import type { ShardMeta } from './writer.ts'

const Count = z
  .int()
  .min(0)
  .max(2 ** 48)
const TokenId = z
  .int()
  .min(0)
  .max(2 ** 32 - 1)

const Meta: z.ZodType<ShardMeta> = z.object({
  format: z.literal('apar-shards'),
  version: z.literal(2),
  tokens: z.enum(['uint16', 'uint32']),
  vocab_size: z
    .int()
    .min(1)
    .max(2 ** 32),
  bos: TokenId.nullable(),
  eos: z.array(TokenId),
  fork: TokenId,
  child: TokenId,
  examples: Count,
  longest_example: Count,
  longest_path: Count,
  kinds: z.object({ structured: Count, serial: Count, unstructured: Count }),
  shards: z.array(
    z.object({
      // It becomes part of a path.
      name: z.string().regex(/^[\w-]{1,64}$/, 'a name of letters, digits, _ and - is needed'),
      examples: Count,
      segments: Count,
      tokens: Count,
    }),
  ),
})

/** @param text of meta.json. @throws AparError `invalid_request`, naming the file, when it is not that of shards. */
export function parseMeta(file: string, text: string): ShardMeta {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw new AparError('invalid_request', `${file}: not valid JSON`)
  }
  const { data, error } = Meta.safeParse(value)
  if (data) return data
  const [issue] = error.issues
  const reason = `${issue?.path.join('.') || 'the file'}: ${issue?.message}`
  throw new AparError('invalid_request', `${file}: not shards of version 2: ${reason}`)
}
