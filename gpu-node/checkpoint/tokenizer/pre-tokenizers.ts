/** How a byte-level BPE vocabulary splits text before its merges, as tokenizer.json says it. */
export interface PreTokenizer {
  /** Each splits what the one before it left whole; a match is a piece of its own. */
  readonly patterns: readonly string[]
  /** A piece that is in the vocabulary is one token, whatever the merges say. */
  readonly ignoreMerges: boolean
  readonly normalizer: { readonly type: 'NFC' } | null
  /** Whether a plain prompt begins with BOS when the file does not say. */
  readonly addsBos: boolean
}

const GPT2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
const CONTRACTIONS = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
const WORDS_AND_REST = (numbers: string) =>
  `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${numbers}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`
const UPPER = '\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}'
const LOWER = '\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}'
const TEKKEN =
  `[^\\r\\n\\p{L}\\p{N}]?[${UPPER}]*[${LOWER}]+|[^\\r\\n\\p{L}\\p{N}]?[${UPPER}]+[${LOWER}]*|\\p{N}` +
  '| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+'

const plain = (...patterns: string[]): PreTokenizer => ({
  patterns,
  ignoreMerges: false,
  normalizer: null,
  addsBos: false,
})
const llama3: PreTokenizer = {
  ...plain(WORDS_AND_REST('\\p{N}{1,3}')),
  ignoreMerges: true,
  addsBos: true,
}
export const gpt2 = plain(GPT2)
export const qwen2: PreTokenizer = { ...plain(WORDS_AND_REST('\\p{N}')), normalizer: { type: 'NFC' } }

/** By the value of `tokenizer.ggml.pre`. */
export const PRE_TOKENIZERS: ReadonlyMap<string, PreTokenizer> = new Map([
  ['default', plain('[\\p{P}\\$\\+<=>\\^~\\|]+', GPT2, '\\p{N}+', '[0-9][0-9][0-9]')],
  ['gpt-2', gpt2],
  ['llama-bpe', llama3],
  ['llama-v3', llama3],
  ['llama3', llama3],
  ['qwen2', qwen2],
  ['deepseek-r1-qwen', qwen2],
  ['smollm', plain('\\p{N}', GPT2)],
  ['tekken', { ...plain(TEKKEN), ignoreMerges: true, addsBos: true }],
])

/** How SentencePiece's text is split where that is possible: a word with the spaces before it, or spaces at the end. */
export const SENTENCEPIECE_WORDS = '▁*[^▁]+|▁+'
