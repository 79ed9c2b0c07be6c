import { readTokenizerFiles } from '../../../gpu-node/checkpoint/tokenizer-files.ts'
import { BranchDecoder } from '../../../gpu-node/text/branch-decoder.ts'
import { type TokenBytes, tokenBytes } from '../../../gpu-node/text/token-bytes.ts'

/** What the tokens of a model folder add to a text, and what its special tokens are called. */
export class TokenNames {
  readonly #bytes: TokenBytes
  readonly #special: ReadonlyMap<number, string>

  private constructor(bytes: TokenBytes, special: ReadonlyMap<number, string>) {
    this.#bytes = bytes
    this.#special = special
  }

  /** @throws StartupError that names the file and what is wrong with it. */
  static read(folder: string): TokenNames {
    const files = readTokenizerFiles(folder)
    const special = files.tokenizer.added_tokens.filter((token) => token.special)
    return new TokenNames(tokenBytes(files), new Map(special.map(({ id, content }) => [id, content])))
  }

  /** The name of a special token, or of an id that stands for no text; undefined for text. */
  special(id: number): string | undefined {
    return this.#bytes.of(id) ? undefined : (this.#special.get(id) ?? `<unused ${id}>`)
  }

  /** What each token adds to the text. A character of several tokens comes with the last of them. */
  texts(ids: Iterable<number>): string[] {
    const decoder = new BranchDecoder(this.#bytes)
    const texts = Array.from(ids, (id) => (this.#bytes.of(id) ? decoder.push(id) : decoder.flush()))
    const rest = decoder.flush()
    if (rest !== '') texts[texts.length - 1] += rest
    return texts
  }
}
