import { z } from 'zod'

const Count = z
  .int()
  .min(0)
  .max(2 ** 48)
const TokenId = z
  .int()
  .min(0)
  .max(2 ** 32 - 1)

/**
 * A folder of token shards, version 2; all numbers are little-endian. An example is a conversation as a tree of segments; a
 * segment is a run of tokens between forks. Parents come before children; each token is learned at most once.
 *
 *   meta.json      this object
 *   NAME.tokens    uint16 or uint32: token ids of all segments, one after the other
 *   NAME.learned   uint8 per token: 1 = in the loss
 *   NAME.segments  uint32 x 3: offset of its first token, length, parent (index within the example; 0xffffffff: none)
 *   NAME.examples  uint32 x 4: first segment, segments, kind (index in SHARD_KINDS), source (number of the conversation)
 */
export const ShardMeta = z.looseObject({
  format: z.literal('apar-shards'),
  version: z.literal(2),
  tokens: z.enum(['uint16', 'uint32']),
  vocab_size: z
    .int()
    .min(1)
    .max(2 ** 32),
  bos: TokenId.nullish(),
  eos: z.array(TokenId),
  fork: TokenId,
  child: TokenId,
  examples: Count,
  longest_example: Count,
  longest_path: Count,
  kinds: z.object({ structured: Count, serial: Count, unstructured: Count }),
  shards: z.array(
    z.looseObject({
      // It becomes part of a path.
      name: z.string().regex(/^[\w-]{1,64}$/, 'a name of letters, digits, _ and - is needed'),
      examples: Count,
      segments: Count,
      tokens: Count,
    }),
  ),
})
export type ShardMeta = z.infer<typeof ShardMeta>

/** A serial example is one in which a fork is banned in the loss. */
export const SHARD_KINDS = ['structured', 'serial', 'unstructured'] as const
export type ShardKind = (typeof SHARD_KINDS)[number]
