import { AparError } from '../../../shared/errors.ts'
import { placesOf, type Segment, type Token } from '../../../shared/token-tree.ts'
import type { ShardExample } from '../shards/reader.ts'
import type { ShardMeta } from '../shards/writer.ts'
import { branchesOf } from './branches.ts'
import type { TokenNames } from './token-names.ts'

/**
 * The tokens of an example as the trainer sees them; given are those that are not learned.
 * @throws AparError when the segments are not a tree of branches.
 */
export function segmentsOf(example: ShardExample, meta: ShardMeta, names: TokenNames): Segment[] {
  const branches = branchesOf(example, meta.child)
  // Special whatever the tokenizer says of them.
  const marks = new Set([meta.fork, meta.child, ...meta.eos])
  const segments = example.segments.map(({ parent, tokens, learned }, index): Segment => {
    const texts = names.texts(tokens)
    return {
      parent,
      branch: branches[index] ?? 0,
      tokens: Array.from(tokens, (id, at): Token => {
        const text = texts[at] ?? ''
        const special = names.special(id) ?? (marks.has(id) ? text : undefined)
        return { id, special, text: special === undefined ? text : '', given: learned[at] === 0 }
      }),
    }
  })
  try {
    placesOf(segments)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new AparError('invalid_request', `example ${example.number} of the shards: ${reason}`, { cause })
  }
  return segments
}
