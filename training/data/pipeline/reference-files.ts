import { createWriteStream } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { badLine, type Conversation } from '../conversation.ts'
import { referenceFiles } from '../extract/reference/files.ts'
import { toConversation } from '../input/conversations.ts'
import { readJsonValues } from '../input/json-values.ts'
import type { InputFile } from './batches.ts'

/** Files that the profile `reference` writes as the reference's scripts do, in their order. */
export const REFERENCE_FILES = [
  'apar.json',
  'apar_flatten.json',
  'unstructured.json',
  'apar_testset.json',
] as const

/**
 * Writes them. All conversations are held in memory: their order is a shuffle of all of them.
 * @returns the ids of the test set.
 */
export async function writeReferenceFiles(
  files: readonly InputFile[],
  folder: string,
  testShare: number,
): Promise<ReadonlySet<string>> {
  const conversations: Conversation[] = []
  for (const { path, name } of files) {
    for await (const { value, line, defaultId } of readJsonValues(path, { name })) {
      const fail = (reason: string): never => {
        throw badLine(name, line, reason)
      }
      const { id, dialogs } = toConversation(value, defaultId, fail)
      conversations.push({ id, dialogs })
    }
  }
  const texts = referenceFiles(conversations, testShare)
  for (const name of REFERENCE_FILES) {
    await pipeline(Readable.from(texts[name]), createWriteStream(join(folder, name)))
  }
  const testSet: { id: string }[] = JSON.parse(await readFile(join(folder, 'apar_testset.json'), 'utf8'))
  return new Set(testSet.map(({ id }) => id))
}
