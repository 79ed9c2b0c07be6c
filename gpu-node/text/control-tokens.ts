import type { AddedToken } from '../checkpoint/tokenizer/tokenizer-file.ts'
import type { TokenizerFiles } from '../checkpoint/tokenizer-files.ts'
import { StartupError } from '../startup-error.ts'
import { ControlText } from './control-text.ts'
import { type Piece, textOf } from './piece.ts'
import { piecesOf } from './pieces.ts'

export interface ControlSources {
  readonly files: TokenizerFiles
  /** Tokens that are control tokens whatever the files say: fork, child, eos. */
  readonly ids: readonly number[]
  /** Rows of the embedding. */
  readonly vocabSize: number
  /** All text that the chat template may write. */
  readonly literals: readonly string[]
  /** Some chats as the template renders them. */
  readonly samples: readonly (readonly Piece[])[]
}

/**
 * The tokens that no text of a user may become: those marked special, those named by the checkpoint, and those that the
 * chat template writes, whatever their flags say. Tokens without an embedding are added: nothing may produce them.
 * @throws StartupError when the template produces a token without an embedding, or hides its tokens.
 */
export function controlText({ files, ids, vocabSize, literals, samples }: ControlSources): ControlText {
  const { tokenizer, named, chatTemplate } = files
  const outsideVocabulary = (token: string, id: number) => {
    const why = `id ${id} of ${JSON.stringify(token)}: the model has vocab_size ${vocabSize}`
    return new StartupError('broken_checkpoint', `${files.file}: ${why}`)
  }
  const ofTemplate = [
    ...literals,
    ...Object.values(named),
    ...samples.flatMap((pieces) => pieces.filter((piece) => piece.ofTemplate).map(({ text }) => text)),
  ]
  const isWritten = ({ content }: AddedToken) =>
    // Some tokenizers have tokens for runs of spaces and line feeds, which are text like any other.
    /[^\s▁]/.test(content) && ofTemplate.some((text) => text.includes(content))
  const outside = tokenizer.added_tokens.filter(({ id }) => id >= vocabSize)
  const missing = outside.find(isWritten)
  if (missing) throw outsideVocabulary(missing.content, missing.id)
  const control = new ControlText(
    tokenizer.added_tokens
      .filter(
        (token) => token.special || ids.includes(token.id) || outside.includes(token) || isWritten(token),
      )
      .map(({ content }) => content),
  )
  const { vocab } = tokenizer.model
  for (const piece of piecesOf(vocab)) {
    const id = vocab[piece] ?? 0
    if (id >= vocabSize && !control.has(piece)) throw outsideVocabulary(piece, id)
  }
  for (const sample of samples) {
    const found = sample.flatMap(({ text, ofTemplate }) => (ofTemplate ? control.in(text) : []))
    const hidden = control.in(textOf(sample)).find((content, index) => content !== found[index])
    if (hidden !== undefined) {
      const why = `writes ${JSON.stringify(hidden)} in a way that does not show that it is not a user's text`
      throw new StartupError('unsupported_checkpoint', `${chatTemplate?.file}: chat_template ${why}`)
    }
  }
  return control
}
