import type { ModelShape } from '../../engine/engine-config.ts'
import { tensorBytes } from '../tensor-blocks.ts'
import type { MedusaHeads } from './medusa-heads.ts'

/** The bytes of all tensors in their file, shared ones once. */
export function medusaBytes({ weights: { tensors } }: Pick<MedusaHeads, 'weights'>): number {
  const places = new Map(tensors.map(({ offset, dtype, shape }) => [offset, tensorBytes(dtype, shape)]))
  return [...places.values()].reduce((sum, bytes) => sum + bytes, 0)
}

/** For an operator: `2 heads, shared lm_head (16384 tokens), read the next token, 2.0 MB`. */
export function describeMedusa(heads: MedusaHeads): string {
  const { numHeads, sharesLmHead, readsNextToken, vocabSize } = heads.shape
  const count = `${numHeads} ${numHeads === 1 ? 'head' : 'heads'}`
  const kind = sharesLmHead ? `shared lm_head (${vocabSize} tokens)` : 'projections of their own'
  const reads = readsNextToken ? ', read the next token' : ''
  return `${count}, ${kind}${reads}, ${(medusaBytes(heads) / 1e6).toFixed(1)} MB`
}

/** What an operator should know of a checkpoint's Medusa heads. */
export function medusaWarnings({ folder, shape }: MedusaHeads, { vocabSize }: ModelShape): string[] {
  if (shape.vocabSize === vocabSize || shape.sharesLmHead) return []
  return [
    `${folder}: the heads know ${shape.vocabSize} of ${vocabSize} tokens: the others are never drafted, only decoded`,
  ]
}
