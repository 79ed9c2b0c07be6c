import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { TokenizerFile } from '../../../gpu-node/checkpoint/tokenizer/tokenizer-file.ts'
import { packageRoot } from '../../../gpu-node/package-root.ts'
import { AparError } from '../../../shared/errors.ts'
import { parseJson } from '../../../shared/parse.ts'
import { CHAT_TEMPLATE } from '../chat.ts'
import { CHILD, FORK } from '../rows.ts'
import { BOS, EOS } from '../tokenizer/convert.ts'
import type { BaseModel } from './base-model.ts'
import type { Json } from './json.ts'

/**
 * A model that is trained from nothing: the demo model's shape and chat template with a tokenizer of its own.
 * @param tokenizerJson contents of a tokenizer.json with <s>, </s>, [Fork] and [Child]; `file`: its name in errors.
 * @param contextTokens most tokens of a path.
 * @throws AparError
 */
export function newModel(tokenizerJson: string, file: string, contextTokens: number): BaseModel {
  const tokenizer = parsed(tokenizerJson, file)
  const idOf = (content: string): number => {
    const found = tokenizer.added_tokens.find((token) => token.content === content)
    if (!found) throw new AparError('invalid_request', `${file} has no token ${content}`)
    return found.id
  }
  for (const content of [FORK, CHILD]) idOf(content)
  const ids = { bos_token_id: idOf(BOS), eos_token_id: idOf(EOS) }
  const ofVocabulary = Object.values(tokenizer.model.vocab)
  const last = [...ofVocabulary, ...tokenizer.added_tokens.map(({ id }) => id)].reduce(
    (a, b) => Math.max(a, b),
    0,
  )
  const { apar: _apar, ...shape }: Json = JSON.parse(
    readFileSync(join(packageRoot, 'models/demo/config.json'), 'utf8'),
  )
  return {
    path: undefined,
    format: 'none',
    text: {
      file,
      tokenizer,
      chatTemplate: { source: CHAT_TEMPLATE, file },
      rawPrefix: BOS,
      named: { bos_token: BOS, eos_token: EOS, unk_token: '<unk>' },
    },
    configs: [{ ...shape, ...ids, vocab_size: last + 1, max_position_embeddings: contextTokens }],
    tokenizerConfig: {},
    generationConfig: { do_sample: false, ...ids },
    branching: { fork_token: FORK, child_token: CHILD, joints: 'kept' },
  }
}

function parsed(text: string, file: string): TokenizerFile {
  try {
    return parseJson(TokenizerFile, text)
  } catch (cause) {
    throw new AparError('invalid_request', `${file} is not a tokenizer.json`, { cause })
  }
}
