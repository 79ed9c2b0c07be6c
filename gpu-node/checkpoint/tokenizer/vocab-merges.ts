import { join } from 'node:path'
import { z } from 'zod'
import { readOptionalJson, readText } from '../read-json.ts'
import { broken, unsupported } from '../refusals.ts'
import { readAddedTokens } from './added-tokens.ts'
import { byteLevelTokenizer } from './byte-level.ts'
import { gpt2, type PreTokenizer, qwen2 } from './pre-tokenizers.ts'
import type { ConvertedTokenizer } from './sentencepiece-folder.ts'
import { type NamedTokens, TOKENIZER_CONFIG, type TokenizerConfig } from './tokenizer-config.ts'

const Vocab = z.record(z.string(), z.int().min(0))

const END = '<|endoftext|>'
/** How the classes split text, by the name in tokenizer_config.json, and their named tokens where a folder has none. */
const CLASSES: readonly { name: string; pre: PreTokenizer; defaults: NamedTokens }[] = [
  { name: 'GPT2Tokenizer', pre: gpt2, defaults: { bos_token: END, eos_token: END, unk_token: END } },
  { name: 'Qwen2Tokenizer', pre: qwen2, defaults: { eos_token: END, unk_token: END, pad_token: END } },
]

/** The tokenizer of a folder with vocab.json and merges.txt (byte-level BPE); undefined when there is none. */
export function vocabMergesFolder(folder: string, config: TokenizerConfig): ConvertedTokenizer | undefined {
  const vocab = readOptionalJson(Vocab, folder, 'vocab.json')
  const text = readText(folder, 'merges.txt')
  if (!vocab || text === undefined) return undefined
  const { pre, defaults } = classOf(folder, config)
  const { addedTokens, named } = readAddedTokens(folder, {
    config,
    idOf: (piece) => (Object.hasOwn(vocab, piece) ? vocab[piece] : undefined),
    own: [],
    defaults,
  })
  const merges = mergesOf(join(folder, 'merges.txt'), text)
  const tokenizer = byteLevelTokenizer({ vocab, merges, addedTokens, pre })
  return { file: join(folder, 'vocab.json'), tokenizer, named }
}

function classOf(folder: string, config: TokenizerConfig) {
  const where = join(folder, TOKENIZER_CONFIG)
  const { tokenizer_class: name = null } = config
  const found = CLASSES.find((known) => known.name === name || `${known.name}Fast` === name)
  if (!found) {
    const known = CLASSES.map((entry) => entry.name).join(' and ')
    const why = `tokenizer_class: ${JSON.stringify(name)} of vocab.json and merges.txt is not served (${known} are)`
    throw unsupported(`${where}: ${why}`)
  }
  if (config.add_prefix_space) {
    throw unsupported(`${where}: add_prefix_space is not served`)
  }
  return found
}

function mergesOf(path: string, text: string): string[] {
  const lines = text.split('\n').map((line) => line.replace(/\r$/, ''))
  const merges = lines.filter((line, index) => line !== '' && !(index === 0 && line.startsWith('#version')))
  const wrong = merges.find((line) => !/^[^ ]+ [^ ]+$/.test(line))
  if (wrong !== undefined) {
    const what = JSON.stringify(wrong.slice(0, 80))
    throw broken(`${path}: ${what} is no merge of two pieces`)
  }
  return merges
}
