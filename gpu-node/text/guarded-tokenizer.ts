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
    const text = mergedText(merge)
    // Only few texts need to be looked up, of the many merges that there are.
    return lengths.has(text.length) && control.has(text)
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

/** What a merge makes; older files write a merge as `a b`, newer ones as [a, b]. */
function mergedText(merge: unknown): string {
  if (Array.isArray(merge)) return `${merge[0]}${merge[1]}`
  return typeof merge === 'string' ? merge.replace(' ', '') : ''
}
