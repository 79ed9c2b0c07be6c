import { readFileSync } from 'node:fs'
import { Tokenizer } from '@huggingface/tokenizers'
import { type Checkpoint, readCheckpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import { packageRoot } from '../../gpu-node/package-root.ts'

/** Text of our own that no model was trained on when it was written. */
const TEXTS = ['docs/structure.md', 'docs/security.md']
const TEXT_BYTES = 20 * 1024
/** Tokens that are computed at once; each window starts anew. */
const WINDOW = 512

/** A checkpoint, and 20 KB of text in its tokens, in windows. */
export interface RealModel {
  readonly checkpoint: Checkpoint
  readonly windows: readonly (readonly number[])[]
}

export function openRealModel(path: string): RealModel {
  const checkpoint = readCheckpoint(path)
  const tokenizer = new Tokenizer(checkpoint.text.tokenizer, { clean_up_tokenization_spaces: false })
  const text = TEXTS.map((file) => readFileSync(`${packageRoot}/${file}`, 'utf8')).join('\n')
  const bytes = Buffer.from(text).subarray(0, TEXT_BYTES)
  const { ids } = tokenizer.encode(new TextDecoder().decode(bytes), { add_special_tokens: false })
  const windows: number[][] = []
  for (let at = 0; at + WINDOW <= ids.length; at += WINDOW) windows.push(ids.slice(at, at + WINDOW))
  return { checkpoint, windows }
}

/** Sum of -ln p(token) over all tokens of a path but the first, from its logits [path.length][vocabSize]. */
export function negativeLogLikelihood(logits: Float32Array, path: readonly number[]): number {
  const vocabSize = logits.length / path.length
  let sum = 0
  for (let row = 0; row + 1 < path.length; row++) {
    const all = logits.subarray(row * vocabSize, (row + 1) * vocabSize)
    let largest = -Infinity
    for (const logit of all) largest = Math.max(largest, logit)
    let total = 0
    for (const logit of all) total += Math.exp(logit - largest)
    sum += largest + Math.log(total) - (all[path[row + 1] ?? -1] ?? Number.NaN)
  }
  return sum
}
