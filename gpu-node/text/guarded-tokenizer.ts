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
  const vocab = Object.fromEntries(
    Object.entries(model.vocab).map(([piece, id]) => [control.nameOf(piece), id]),
  )
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
      ...(Array.isArray(merges) && { merges: merges.filter((merge) => !control.has(mergedText(merge))) }),
      ...(typeof unknown === 'string' && { unk_token: control.nameOf(unknown) }),
    },
  }
}

/** What a merge makes; older files write a merge as `a b`, newer ones as [a, b]. */
function mergedText(merge: unknown): string {
  if (Array.isArray(merge)) return merge.join('')
  return typeof merge === 'string' ? merge.replace(' ', '') : ''
}
