import { Tokenizer } from '@huggingface/tokenizers'
import { AparError } from '../../../shared/errors.ts'
import { CHILD, FORK } from '../rows.ts'
import { BOS, EOS } from './convert.ts'

/** Lone surrogates are replaced: on them the library differs from Hugging Face's Rust tokenizers. */
const LONE_SURROGATE = /\p{Surrogate}/gu

/** Encodes text with a tokenizer.json, by the same library as the gpu node. All ids come from the file. */
export interface Encoder {
  bos: number
  eos: number
  fork: number
  child: number
  vocabSize: number
  encode(text: string): number[]
  decode(ids: readonly number[]): string
}

/**
 * @param name name of the file in error messages.
 * @throws AparError when the text is not a tokenizer.json or lacks one of <s>, </s>, [Fork], [Child].
 */
export function loadEncoder(tokenizerJson: string, name = 'the text'): Encoder {
  let tokenizer: Tokenizer
  try {
    tokenizer = new Tokenizer(JSON.parse(tokenizerJson), { clean_up_tokenization_spaces: false })
  } catch (cause) {
    throw new AparError('invalid_request', `${name} is not a tokenizer.json`, { cause })
  }
  const id = (token: string): number => {
    const found = tokenizer.token_to_id(token)
    if (found === undefined) throw new AparError('invalid_request', `${name} has no token ${token}`)
    return found
  }
  return {
    bos: id(BOS),
    eos: id(EOS),
    fork: id(FORK),
    child: id(CHILD),
    vocabSize: tokenizer.get_vocab().size,
    encode: (text) =>
      tokenizer.encode(text.replace(LONE_SURROGATE, '\ufffd'), { add_special_tokens: false }).ids,
    decode: (ids) =>
      tokenizer.decode([...ids], { skip_special_tokens: false, clean_up_tokenization_spaces: false }),
  }
}
