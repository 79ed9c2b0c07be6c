import { addedToken, type TokenizerFile } from '../../../gpu-node/checkpoint/tokenizer/tokenizer-file.ts'
import type { TokenizerFiles } from '../../../gpu-node/checkpoint/tokenizer-files.ts'
import { StartupError } from '../../../gpu-node/startup-error.ts'
import { CHILD, FORK } from '../rows.ts'
import type { BaseModel } from './base-model.ts'
import type { Json } from './json.ts'

/** `own`: what the model has, or else `add`. `add`: two tokens behind the last one. Ids: of two tokens to take over. */
export type ForkTokens = 'own' | 'add' | readonly [fork: number, child: number]

export interface WithForkTokens {
  text: TokenizerFiles
  tokenizerConfig: Json
  generationConfig: Json
  /** Rows of the embedding that the tokens need at least. */
  minVocabSize: number
  branching: { fork_token: string; child_token: string; joints: string }
}

/**
 * The model's tokenizer with [Fork] and [Child].
 * @throws StartupError when tokens cannot be added or taken over.
 */
export function withForkTokens(base: BaseModel, choice: ForkTokens): WithForkTokens {
  const { text, branching, tokenizerConfig, generationConfig } = base
  if (choice === 'own' && branching) {
    const { fork_token, child_token, joints } = branching
    return {
      ...{ text, tokenizerConfig, generationConfig, minVocabSize: 0 },
      branching: { fork_token, child_token, joints },
    }
  }
  const names = { fork_token: FORK, child_token: CHILD, joints: 'kept' }
  if (choice === 'own' || choice === 'add') {
    const tokenizer = withAdded(text)
    const minVocabSize = nextId(text.tokenizer) + 2
    const listed = listedTokens(tokenizerConfig, tokenizer)
    return {
      ...{ text: { ...text, tokenizer }, tokenizerConfig: listed, generationConfig, minVocabSize },
      branching: names,
    }
  }
  const renamed = takenOver(base, choice)
  return {
    text: renamed.text,
    tokenizerConfig: renamed.tokenizerConfig,
    generationConfig: renamed.generationConfig,
    minVocabSize: 0,
    branching: names,
  }
}

function nextId({ model, added_tokens }: TokenizerFile): number {
  let last = -1
  for (const piece in model.vocab) last = Math.max(last, model.vocab[piece] ?? 0)
  for (const { id } of added_tokens) last = Math.max(last, id)
  return last + 1
}

function withAdded({ tokenizer, file }: TokenizerFiles): TokenizerFile {
  const first = nextId(tokenizer)
  const added = [FORK, CHILD].map((content, index) => {
    if (tokenizer.added_tokens.some((token) => token.content === content) || content in tokenizer.model.vocab)
      throw unusable(file, `--fork-tokens add: there is a token ${content} already`)
    return addedToken(first + index, content, { special: true })
  })
  return { ...tokenizer, added_tokens: [...tokenizer.added_tokens, ...added] }
}

/** `added_tokens_decoder` lists all of them, where it is there. */
function listedTokens(config: Json, { added_tokens }: TokenizerFile): Json {
  if (typeof config.added_tokens_decoder !== 'object' || config.added_tokens_decoder === null) return config
  const added = added_tokens.slice(-2).map(({ id, ...token }) => [String(id), token])
  return { ...config, added_tokens_decoder: { ...config.added_tokens_decoder, ...Object.fromEntries(added) } }
}

function takenOver(base: BaseModel, ids: readonly [number, number]) {
  const { tokenizer, file, named, chatTemplate } = base.text
  const names = new Map<string, string>()
  for (const [index, id] of ids.entries()) {
    const token = tokenizer.added_tokens.find((each) => each.id === id)
    if (!token) throw unusable(file, `--fork-tokens: ${id} is not the id of an added token`)
    const { content } = token
    if (Object.values(named).includes(content))
      throw unusable(file, `--fork-tokens: ${id} is ${content}, which the model uses`)
    if (chatTemplate?.source.includes(content))
      throw unusable(file, `--fork-tokens: ${id} is ${content}, which the chat template writes`)
    names.set(content, [FORK, CHILD][index] ?? '')
  }
  if (names.size !== 2) throw unusable(file, '--fork-tokens: two different ids are needed')
  const rename = <T>(value: T): T => renamed(value, names)
  const added_tokens = tokenizer.added_tokens.map((token) =>
    // Of published checkpoints the flags strip white space, which is kept here.
    names.has(token.content)
      ? addedToken(token.id, names.get(token.content) ?? '', { special: true })
      : token,
  )
  const { vocab } = tokenizer.model
  const model = { ...tokenizer.model, vocab: Object.fromEntries(renamedKeys(vocab, names)) }
  const post_processor = rename(tokenizer.post_processor)
  return {
    text: { ...base.text, tokenizer: { ...tokenizer, added_tokens, model, post_processor } },
    tokenizerConfig: rename(base.tokenizerConfig),
    generationConfig: rename(base.generationConfig),
  }
}

function renamedKeys<T>(record: Record<string, T>, names: ReadonlyMap<string, string>): [string, T][] {
  return Object.entries(record).map(([key, value]) => [names.get(key) ?? key, value])
}

/** The same value with strings and keys renamed, wherever they are. */
function renamed<T>(value: T, names: ReadonlyMap<string, string>): T
function renamed(value: unknown, names: ReadonlyMap<string, string>): unknown {
  if (typeof value === 'string') return names.get(value) ?? value
  if (Array.isArray(value)) return value.map((each) => renamed(each, names))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    renamedKeys(value as Json, names).map(([key, each]) => [key, renamed(each, names)]),
  )
}

function unusable(file: string, why: string): StartupError {
  return new StartupError('invalid_option', `${file}: ${why}`)
}
