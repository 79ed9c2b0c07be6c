import { join } from 'node:path'
import type { Conversation } from '../conversation.ts'
import { smalltalkConversations } from './smalltalk.ts'
import { type TldrOptions, tldrConversations } from './tldr.ts'

/** The training conversations of models/demo. `raw` is the folder with `instruct/tldr_pages_en.jsonl.gz`. */
export async function* demoConversations(
  raw: string,
  options: TldrOptions = {},
): AsyncGenerator<Conversation> {
  if (!options.skip) yield* smalltalkConversations()
  yield* tldrConversations(join(raw, 'instruct', 'tldr_pages_en.jsonl.gz'), options)
}
