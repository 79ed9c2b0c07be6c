import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { readOptionalJson } from '../../gpu-node/checkpoint/read-json.ts'
import type { TokenizerFile } from '../../gpu-node/checkpoint/tokenizer/tokenizer-file.ts'
import { readTokenizerFiles } from '../../gpu-node/checkpoint/tokenizer-files.ts'
import { readModelFiles } from '../../training/data/model/base-model.ts'
import { UserError } from '../explain.ts'

interface Named {
  /** As the user names it. */
  readonly name: string
  /** A folder or a GGUF file. */
  readonly path: string
  /** Of an adapter over it, whose tokenizer is its own. */
  readonly adapter?: string | undefined
}

/** Tokens by their ids, and the two that fork where the model has them. */
interface Vocabulary {
  readonly tokens: ReadonlyMap<number, string>
  readonly control: readonly [fork: number | undefined, child: number | undefined] | undefined
}

/** How GGUF files name ids that no token has. */
const UNUSED = /^\[PAD\d+\]$|^<\|?unused_?\d+\|?>$/

/**
 * Token ids mean the same in the data and in the model, or every row would be learned for another word.
 * What has no tokenizer is not compared.
 * @throws UserError `other_vocabulary`
 */
export function refuseOtherVocabulary(data: string, model: Named): void {
  const folder = join(data, 'model')
  const ours = existsSync(join(folder, 'tokenizer.json')) ? ofBuild(folder) : undefined
  const theirs = ours && ofModel(model)
  if (!ours || !theirs) return
  const base = readOptionalJson(Base, folder, 'base.json')?.path ?? 'a new model'
  const refuse = (why: string): never => {
    const digests = `vocabularies ${digest(ours)} and ${digest(theirs)}`
    throw new UserError(
      'other_vocabulary',
      `the data in ${data} were built for ${base}, not for ${model.name}: ${why} (${digests}): ` +
        `build them with --model ${model.name}`,
    )
  }
  if (theirs.control && ours.control && theirs.control.some((id, index) => id !== ours.control?.[index]))
    refuse(
      `[Fork] and [Child] are tokens ${ours.control.join(' and ')} there, ${theirs.control.join(' and ')} here`,
    )
  for (const [id, token] of ours.tokens) {
    const other = theirs.tokens.get(id)
    if (other === token || ours.control?.includes(id) || UNUSED.test(token)) continue
    refuse(`token ${id} is ${JSON.stringify(token)} there, ${JSON.stringify(other) ?? 'none'} here`)
  }
}

const Base = z.looseObject({ path: z.string().nullish() })
const Config = z.looseObject({
  branching: z.looseObject({ fork_token: z.string(), child_token: z.string() }).optional(),
})

function ofBuild(folder: string): Vocabulary {
  return vocabularyOf(
    readTokenizerFiles(folder).tokenizer,
    readOptionalJson(Config, folder, 'config.json')?.branching,
  )
}

function ofModel({ path, adapter }: Named): Vocabulary | undefined {
  try {
    const { text, branching } = readModelFiles(path, adapter)
    return vocabularyOf(text.tokenizer, branching)
  } catch {
    // Whatever is wrong with the model, the trainer says it better.
    return undefined
  }
}

function vocabularyOf(
  { model, added_tokens }: TokenizerFile,
  branching: { fork_token: string; child_token: string } | undefined,
): Vocabulary {
  const tokens = new Map<number, string>()
  for (const piece in model.vocab) tokens.set(model.vocab[piece] ?? -1, piece)
  for (const { id, content } of added_tokens) tokens.set(id, content)
  const idOf = (token: string) => added_tokens.find(({ content }) => content === token)?.id
  return { tokens, control: branching && [idOf(branching.fork_token), idOf(branching.child_token)] }
}

function digest({ tokens }: Vocabulary): string {
  const hash = createHash('sha256')
  for (const [id, token] of [...tokens].sort(([a], [b]) => a - b)) hash.update(`${id} ${token}\n`)
  return hash.digest('hex').slice(0, 12)
}
