import { Tokenizer } from '@huggingface/tokenizers'
import type { TokenizerFile } from '../checkpoint/tokenizer/tokenizer-file.ts'
import { StartupError } from '../startup-error.ts'
import type { ControlText } from './control-text.ts'

/** `path`: of the file that it is read from. @throws StartupError `unsupported_checkpoint`. */
export function openTokenizer(file: TokenizerFile, path: string): Tokenizer {
  try {
    return new Tokenizer(file, { clean_up_tokenization_spaces: false })
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new StartupError('unsupported_checkpoint', `${path}: ${reason}`, cause)
  }
}

/**
 * The same tokenizer, which knows the control tokens only under their names: neither its added tokens nor its model
 * can make one of them from their text.
 */
export function withNames(file: TokenizerFile, control: ControlText): TokenizerFile {
  const { added_tokens, model } = file
  const vocab = { ...model.vocab }
  for (const content of control.contents) {
    const id = vocab[content]
    if (id === undefined) continue
    delete vocab[content]
    vocab[control.nameOf(content)] = id
  }
  const lengths = new Set([...control.contents].map(({ length }) => length))
  const makesControlToken = (merge: unknown) => {
    // Only few texts need to be put together, of the many merges that there are.
    return lengths.has(mergedLength(merge)) && control.has(mergedText(merge))
  }
  const { merges, unk_token: unknown } = model
  return {
    ...file,
    added_tokens: added_tokens.map((token) =>
      // Names must match exactly, without normalisation.
      control.has(token.content)
        ? { ...token, content: control.nameOf(token.content), normalized: false }
        : token,
    ),
    model: {
      ...model,
      vocab,
      ...(Array.isArray(merges) && { merges: merges.filter((merge) => !makesControlToken(merge)) }),
      ...(typeof unknown === 'string' && { unk_token: control.nameOf(unknown) }),
    },
  }
}

/** Of what {@link mergedText} gives. */
function mergedLength(merge: unknown): number {
  if (typeof merge === 'string') return merge.length - 1
  return Array.isArray(merge) ? `${merge[0]}${merge[1]}`.length : 0
}

/** What a merge makes; older files write a merge as `a b`, newer ones as [a, b]. */
function mergedText(merge: unknown): string {
  if (Array.isArray(merge)) return `${merge[0]}${merge[1]}`
  return typeof merge === 'string' ? merge.replace(' ', '') : ''
}
