import { join } from 'node:path'
import type { Conversation } from '../conversation.ts'
import { smalltalkConversations } from './smalltalk.ts'
import { tldrConversations } from './tldr.ts'

/** What models/demo is trained on. `raw` is the folder with `instruct/tldr_pages_en.jsonl.gz`. */
export async function* demoConversations(raw: string, pages?: number): AsyncGenerator<Conversation> {
  yield* smalltalkConversations()
  const file = join(raw, 'instruct', 'tldr_pages_en.jsonl.gz')
  yield* tldrConversations(file, pages === undefined ? {} : { pages })
}
