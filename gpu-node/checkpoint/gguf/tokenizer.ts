import { z } from 'zod'
import { broken, unsupported } from '../refusals.ts'
import { byteLevelTokenizer } from '../tokenizer/byte-level.ts'
import { withToolUse } from '../tokenizer/chat-template.ts'
import { PRE_TOKENIZERS, type PreTokenizer } from '../tokenizer/pre-tokenizers.ts'
import { sentencePieceTokenizer } from '../tokenizer/sentencepiece.ts'
// Values of `tokenizer.ggml.token_type`, too.
import { PIECE } from '../tokenizer/sentencepiece-file.ts'
import { type AddedToken, addedToken, type TokenizerFile, vocabOf } from '../tokenizer/tokenizer-file.ts'
import type { TokenizerFiles } from '../tokenizer-files.ts'
import type { GgufFile } from './gguf-file.ts'
import { parseMetadata } from './metadata.ts'

const id = z.int().min(0)
/** Arrays as long as the vocabulary; an issue for each value would be of no use, and takes time. */
const arrayOf = <T extends 'string' | 'number'>(type: T) =>
  z.custom<(T extends 'string' ? string : number)[]>(
    (value) => Array.isArray(value) && value.every((each) => typeof each === type),
    { error: `must be an array of ${type}s` },
  )
const Metadata = z.looseObject({
  'tokenizer.ggml.model': z.enum(['gpt2', 'llama']),
  'tokenizer.ggml.pre': z.string().default('default'),
  'tokenizer.ggml.tokens': arrayOf('string').refine((tokens) => tokens.length > 0, { error: 'is empty' }),
  'tokenizer.ggml.token_type': arrayOf('number').optional(),
  'tokenizer.ggml.scores': arrayOf('number').optional(),
  'tokenizer.ggml.merges': arrayOf('string').optional(),
  'tokenizer.ggml.bos_token_id': id.optional(),
  'tokenizer.ggml.eos_token_id': id.optional(),
  'tokenizer.ggml.eot_token_id': id.optional(),
  'tokenizer.ggml.unknown_token_id': id.optional(),
  'tokenizer.ggml.padding_token_id': id.optional(),
  'tokenizer.ggml.add_bos_token': z.boolean().optional(),
  'tokenizer.ggml.add_space_prefix': z.boolean().default(true),
  'tokenizer.chat_template': z.string().optional(),
  'tokenizer.chat_template.tool_use': z.string().optional(),
})
type Metadata = z.infer<typeof Metadata>

export interface GgufTokenizer {
  readonly files: TokenizerFiles
  readonly eosTokenIds: number[]
}

/**
 * The file's tokenizer, in the form of tokenizer.json.
 * @throws StartupError that names the file and the field at fault.
 */
export function ggufTokenizer(file: GgufFile): GgufTokenizer {
  const metadata = parseMetadata(Metadata, file)
  const tokens = metadata['tokenizer.ggml.tokens']
  const field = (name: string, why: string) => broken(`${file.path}: tokenizer.ggml.${name}: ${why}`)
  for (const name of ['token_type', 'scores'] as const) {
    const values = metadata[`tokenizer.ggml.${name}`]
    if (values && values.length !== tokens.length)
      throw field(name, `has ${values.length} values for ${tokens.length} tokens`)
  }
  const contentOf = (name: 'bos' | 'eos' | 'unknown' | 'padding' | 'eot') => {
    const number = metadata[`tokenizer.ggml.${name}_token_id`]
    if (number === undefined) return undefined
    const content = tokens[number]
    if (content === undefined) throw field(`${name}_token_id`, `${number} is not in the vocabulary`)
    return content
  }
  const named: TokenizerFiles['named'] = {}
  const [bos, eos, unk, pad] = [
    contentOf('bos'),
    contentOf('eos'),
    contentOf('unknown'),
    contentOf('padding'),
  ]
  if (bos !== undefined) named.bos_token = bos
  if (eos !== undefined) named.eos_token = eos
  if (unk !== undefined) named.unk_token = unk
  if (pad !== undefined) named.pad_token = pad
  contentOf('eot')
  const pre = metadata['tokenizer.ggml.model'] === 'llama' ? undefined : preTokenizerOf(file, metadata)
  if (!metadata['tokenizer.ggml.token_type']) throw field('token_type', 'is missing')
  const template = metadata['tokenizer.chat_template']
  const toolUse = metadata['tokenizer.chat_template.tool_use']
  return {
    files: {
      file: file.path,
      tokenizer: pre ? byteLevel(file, metadata, pre) : sentencePiece(file, metadata),
      chatTemplate:
        template === undefined ? undefined : withToolUse({ source: template, file: file.path }, toolUse),
      named,
      rawPrefix: (metadata['tokenizer.ggml.add_bos_token'] ?? pre?.addsBos ?? true) ? (bos ?? '') : '',
    },
    eosTokenIds: [metadata['tokenizer.ggml.eos_token_id'], metadata['tokenizer.ggml.eot_token_id']].filter(
      (number) => number !== undefined,
    ),
  }
}

function preTokenizerOf(file: GgufFile, metadata: Metadata): PreTokenizer {
  const name = metadata['tokenizer.ggml.pre']
  const pre = PRE_TOKENIZERS.get(name)
  if (!pre) {
    const known = [...PRE_TOKENIZERS.keys()].join(', ')
    const message = `${file.path}: tokenizer.ggml.pre: ${JSON.stringify(name)} is not known (${known} are)`
    throw unsupported(message)
  }
  return pre
}

function byteLevel(file: GgufFile, metadata: Metadata, pre: PreTokenizer): TokenizerFile {
  const merges = metadata['tokenizer.ggml.merges']
  if (!merges) throw broken(`${file.path}: tokenizer.ggml.merges is missing`)
  const vocab = vocabOf(metadata['tokenizer.ggml.tokens'])
  return byteLevelTokenizer({ vocab, merges, addedTokens: addedTokens(metadata), pre })
}

function sentencePiece(file: GgufFile, metadata: Metadata): TokenizerFile {
  const tokens = metadata['tokenizer.ggml.tokens']
  const scores = metadata['tokenizer.ggml.scores']
  if (!scores) throw broken(`${file.path}: tokenizer.ggml.scores is missing`)
  const types = metadata['tokenizer.ggml.token_type']
  const isText = (index: number) =>
    types === undefined || ![PIECE.unknown, PIECE.control].includes(types[index] as 2 | 3)
  const pieces = tokens.map((piece, index) => ({ piece, score: scores[index] ?? 0, index }))
  const unknown = metadata['tokenizer.ggml.unknown_token_id']
  return sentencePieceTokenizer({
    file: file.path,
    pieces: tokens,
    mergeable: pieces.filter(({ index }) => isText(index)),
    symbols: [],
    addedTokens: addedTokens(metadata),
    unknown: unknown === undefined ? undefined : tokens[unknown],
    byteFallback: true,
    prefix: metadata['tokenizer.ggml.add_space_prefix'] ? 'each' : 'none',
    collapsesSpaces: false,
  })
}

function addedTokens(metadata: Metadata): AddedToken[] {
  const types = metadata['tokenizer.ggml.token_type'] ?? []
  return metadata['tokenizer.ggml.tokens'].flatMap((content, index) => {
    const type = types[index]
    const special = type === PIECE.control || type === PIECE.unknown
    return special || type === PIECE.userDefined ? [addedToken(index, content, { special })] : []
  })
}
