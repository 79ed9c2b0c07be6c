import { join } from 'node:path'
import { z } from 'zod'
import { readGenerationConfig } from '../../../gpu-node/checkpoint/generation-config.ts'
import { readJson } from '../../../gpu-node/checkpoint/read-json.ts'
import { readTokenizerFiles, type TokenizerFiles } from '../../../gpu-node/checkpoint/tokenizer-files.ts'
import { StartupError } from '../../../gpu-node/startup-error.ts'

export interface ControlToken {
  id: number
  content: string
}

/** What of a model's folder text is encoded with. */
export interface ModelText {
  files: TokenizerFiles
  fork: ControlToken
  child: ControlToken
  bos: number | undefined
  /** Each ends an answer; never empty. */
  eos: number[]
  vocabSize: number
  contextTokens: number
}

const Config = z.looseObject({
  vocab_size: z.int().min(1),
  max_position_embeddings: z.int().min(1),
  branching: z.looseObject({ fork_token: z.string(), child_token: z.string() }),
  eos_token_id: z.union([z.int().min(0), z.array(z.int().min(0))]).nullish(),
})

/** Reads the folder `model/` of a build, which the build itself has written. @throws StartupError. */
export function readModelText(folder: string): ModelText {
  const config = readJson(Config, folder, 'config.json')
  const files = readTokenizerFiles(folder)
  const idOf = (content: string): number => {
    const id = files.tokenizer.added_tokens.find((token) => token.content === content)?.id
    if (id !== undefined) return id
    const why = `added_tokens: no ${JSON.stringify(content)}`
    throw new StartupError('broken_checkpoint', `${files.file}: ${why}`)
  }
  const token = (content: string) => ({ id: idOf(content), content })
  const { bos_token, eos_token } = files.named
  // The tokenizer's own comes first, as when the model is served.
  const eos = [
    ...(eos_token === undefined ? [] : [idOf(eos_token)]),
    ...[config.eos_token_id ?? []].flat(),
    ...readGenerationConfig(folder).eosTokenIds,
  ]
  if (eos.length === 0)
    throw new StartupError(
      'broken_checkpoint',
      `${join(folder, 'config.json')}: eos_token_id: no token ends an answer`,
    )
  return {
    files,
    fork: token(config.branching.fork_token),
    child: token(config.branching.child_token),
    bos: bos_token === undefined ? undefined : idOf(bos_token),
    eos: [...new Set(eos)],
    vocabSize: config.vocab_size,
    contextTokens: config.max_position_embeddings,
  }
}
