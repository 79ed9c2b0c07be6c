import type { Branching } from './config/branching.ts'
import type { AddedToken } from './tokenizer/tokenizer-file.ts'

/** Options of the published APAR checkpoints: their config.json has none, but their tokenizers have these tokens. */
export const PUBLISHED: Branching = {
  fork_token: '[SplitMask]',
  child_token: '[SplitSop]',
  joints: 'mended',
}

/** For the added tokens of a published APAR checkpoint, says which are its own; of any other, none. */
export function isPublishedApar(addedTokens: readonly AddedToken[]): (content: string) => boolean {
  const own = [PUBLISHED.fork_token, PUBLISHED.child_token]
  const has = own.every((token) => addedTokens.some(({ content }) => content === token))
  return (content) => has && own.includes(content)
}
