import { BPE, ByteLevelPreTokenizer, SequencePreTokenizer, type Tokenizer } from '@huggingface/tokenizers'
import type { AddedToken, TokenizerFile } from '../../../gpu-node/checkpoint/tokenizer/tokenizer-file.ts'
import { escapeRegExp } from '../../../gpu-node/text/control-text.ts'
import { openTokenizer } from '../../../gpu-node/text/guarded-tokenizer.ts'

/** Words whose ids are kept; then those that were not used since the last as many are forgotten. */
const MAX_WORDS = 1 << 16
/** UTF-16 code units; longer words hardly ever occur twice. */
const MAX_WORD_LENGTH = 48

/**
 * The same tokenizer, which remembers the ids of words. Splitting text into words is cheap, and most words of a corpus
 * have been seen before. Tokenizers that do not encode word by word are left as they are.
 */
export function openCachedTokenizer(file: TokenizerFile, path: string): Pick<Tokenizer, 'encode'> {
  const tokenizer = openTokenizer(file, path)
  const { model, pre_tokenizer: preTokenizer, normalizer } = tokenizer
  const words = preTokenizer && wordSplitter(preTokenizer)
  const isNormalized = ({ normalized }: AddedToken) => normalized && normalizer !== null
  if (!words || !(model instanceof BPE) || !encodesWordsAlone(model)) return tokenizer
  if (file.added_tokens.some(isNormalized)) return tokenizer

  // Its own cache is smaller, and slow once it is full.
  model.max_length_to_cache = 0
  const idOf = (token: string): number => {
    const id = model.tokens_to_ids.get(token)
    if (id === undefined) throw new Error(`${path}: no id for ${token}`)
    return id
  }
  let recent = new Map<string, readonly number[]>()
  let older = recent
  const idsOf = (word: string): readonly number[] => {
    const known = recent.get(word)
    if (known) return known
    const ids = older.get(word) ?? model.encode(words.finish(word)).map(idOf)
    if (word.length > MAX_WORD_LENGTH) return ids
    if (recent.size >= MAX_WORDS) {
      older = recent
      recent = new Map()
    }
    // A copy: a slice of a text keeps the whole text in memory.
    recent.set(Buffer.from(word, 'utf16le').toString('utf16le'), ids)
    return ids
  }
  const added = new Map(file.added_tokens.map((token) => [token.content, token]))
  const sections = sectionSplitter([...added.keys()])
  const encode = (text: string): number[] => {
    const ids: number[] = []
    const pieces = stripped(sections(text), added)
    for (const [section_index, piece] of pieces.entries()) {
      const token = added.get(piece)
      if (token) {
        ids.push(token.id)
        continue
      }
      const normalized = piece === '' || !normalizer ? piece : normalizer.normalize(piece)
      if (normalized === '') continue
      for (const word of words.split(normalized, { section_index })) {
        for (const id of idsOf(word)) ids.push(id)
      }
    }
    return ids
  }
  return {
    encode: ((text: string, options?: { add_special_tokens?: boolean }) =>
      options?.add_special_tokens === false
        ? { ids: encode(text) }
        : tokenizer.encode(text, options)) as Tokenizer['encode'],
  }
}

/** Splits a text at added tokens: at each place the longest that begins there. They are entries of their own. */
function sectionSplitter(contents: readonly string[]): (text: string) => string[] {
  if (contents.length === 0) return (text) => [text]
  const longestFirst = [...contents].sort((a, b) => b.length - a.length)
  const pattern = new RegExp(`(${longestFirst.map(escapeRegExp).join('|')})`)
  return (text) => text.split(pattern).filter((section) => section !== '')
}

/** Some added tokens take the white space beside them. */
function stripped(sections: string[], added: ReadonlyMap<string, AddedToken>): string[] {
  for (const [index, section] of sections.entries()) {
    const token = added.get(section)
    if (token?.lstrip && index > 0) sections[index - 1] = sections[index - 1]?.trimEnd() ?? ''
    if (token?.rstrip && index + 1 < sections.length)
      sections[index + 1] = sections[index + 1]?.trimStart() ?? ''
  }
  return sections
}

/** Whether the tokens of a text are those of its words: runs of unknown tokens become one even across words. */
function encodesWordsAlone({ fuse_unk, unk_token, byte_fallback }: BPE): boolean {
  return !fuse_unk || unk_token === null || unk_token === undefined || byte_fallback
}

type PreTokenizer = NonNullable<Tokenizer['pre_tokenizer']>
type Split = PreTokenizer['pre_tokenize_text']

interface WordSplitter {
  readonly split: Split
  /** What the last step of the pre-tokenizer does to each word. */
  finish(word: string): string[]
}

function wordSplitter(preTokenizer: PreTokenizer): WordSplitter | undefined {
  const steps = preTokenizer instanceof SequencePreTokenizer ? preTokenizer.tokenizers : [preTokenizer]
  const last = steps.at(-1)
  const isByteLevel = last instanceof ByteLevelPreTokenizer
  if (isByteLevel && last.add_prefix_space) return undefined
  const splits = steps.flatMap((step): Split[] => {
    if (!step) return []
    if (step !== last || !isByteLevel) return [step.pre_tokenize_text.bind(step)]
    const { pattern } = last
    return last.use_regex ? [(text) => text.match(pattern) ?? []] : []
  })
  if (splits.length === 0) return undefined
  const toBytes = isByteLevel && new ByteLevelPreTokenizer({ type: 'ByteLevel', use_regex: false })
  return {
    split: (text, options) =>
      splits.reduce((pieces, split) => pieces.flatMap((piece) => split(piece, options)), [text]),
    finish: (word) => (toBytes ? toBytes.pre_tokenize_text(word) : [word]),
  }
}
