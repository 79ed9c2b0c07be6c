import type { PreTokenizer } from './pre-tokenizers.ts'
import type { AddedToken, TokenizerFile } from './tokenizer-file.ts'

export interface ByteLevelVocabulary {
  readonly vocab: Record<string, number>
  /** `a b`, in the order of their ranks. */
  readonly merges: readonly string[]
  readonly addedTokens: readonly AddedToken[]
  readonly pre: PreTokenizer
}

/** A vocabulary of byte-level BPE in the form of tokenizer.json. */
export function byteLevelTokenizer({ vocab, merges, addedTokens, pre }: ByteLevelVocabulary): TokenizerFile {
  const splits = pre.patterns.map((Regex) => ({
    type: 'Split',
    pattern: { Regex },
    behavior: 'Isolated',
    invert: false,
  }))
  const byteLevelSplit = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false }
  return {
    added_tokens: [...addedTokens],
    normalizer: pre.normalizer,
    pre_tokenizer: { type: 'Sequence', pretokenizers: [...splits, byteLevelSplit] },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: { type: 'BPE', vocab, merges, ignore_merges: pre.ignoreMerges },
  }
}
