import { join } from 'node:path'
import { ArrayFile } from './array-file.ts'
import type { Conversation } from './conversation.ts'
import { extractConversation } from './extract/extract.ts'
import type { Rule, Structure } from './extract/structure.ts'
import { hashText } from './random.ts'
import { flatRow, type Row, structuredRows, unstructuredRow } from './rows.ts'

export const TEST_SHARE = 0.12

/** The result for one conversation. Lines of examples.jsonl, from which tokenizer and shards are built. */
export interface Example {
  id: string
  kind: Structure['kind'] | 'unstructured'
  split: 'train' | 'test'
  /** Structured only: the main row and the branch rows. */
  rows?: Row[]
  /** Structured only: the same answer in serial form. */
  flat?: Row
  /** Unstructured only: all turns. */
  turns?: Conversation['dialogs']
}

export interface ExtractReport {
  conversations: number
  lists: number
  paragraphs: number
  unstructured: number
  dropped: number
  /** Conversations in the test set: structured ones, and all. */
  heldOut: { structured: number; all: number }
  /** How many answers each rule refused as structured. */
  refused: Partial<Record<Rule, number>>
  branches: number
}

/**
 * The split is by group, not by conversation: other phrasings of a held-out question would reveal its answer in
 * training.
 */
export function splitOf(group: string, seed: number, share: number = TEST_SHARE): 'train' | 'test' {
  return hashText(`${seed}:${group}`) / 2 ** 32 < share ? 'test' : 'train'
}

export interface ExtractOptions {
  conversations: AsyncIterable<Conversation> | Iterable<Conversation>
  /** Output folder for apar.json, apar_flatten.json, unstructured.json, apar_testset.json and examples.jsonl. */
  folder: string
  seed: number
  testShare?: number
  onConversation?: (count: number) => void
}

/** Writes structured and unstructured examples from conversations, in one pass. */
export async function writeExamples(options: ExtractOptions): Promise<ExtractReport> {
  const report: ExtractReport = {
    conversations: 0,
    lists: 0,
    paragraphs: 0,
    unstructured: 0,
    dropped: 0,
    heldOut: { structured: 0, all: 0 },
    refused: {},
    branches: 0,
  }
  const file = (name: string) => join(options.folder, name)
  const apar = new ArrayFile(file('apar.json'))
  const flat = new ArrayFile(file('apar_flatten.json'))
  const plain = new ArrayFile(file('unstructured.json'))
  const testset = new ArrayFile(file('apar_testset.json'))
  const examples = new ArrayFile(file('examples.jsonl'), 'lines')

  for await (const conversation of options.conversations) {
    report.conversations += 1
    options.onConversation?.(report.conversations)
    const { id } = conversation
    const prompt = conversation.dialogs[0]?.prompt ?? ''
    const split = splitOf(conversation.group ?? prompt, options.seed, options.testShare)
    const result = extractConversation(conversation)
    let example: Example
    if ('structure' in result) {
      const { kind } = result.structure
      const rows = [...structuredRows(conversation, result.structure)]
      const flatAnswer = flatRow(conversation, result.structure)
      example = { id, kind, split, rows, flat: flatAnswer }
      report[kind === 'list' ? 'lists' : 'paragraphs'] += 1
      report.branches += rows.length - 1
      if (split === 'train') {
        for (const row of rows) await apar.add(row)
        await flat.add(flatAnswer)
      }
    } else {
      report.refused[result.rule] = (report.refused[result.rule] ?? 0) + 1
      if (!result.keep) {
        report.dropped += 1
        continue
      }
      example = { id, kind: 'unstructured', split, turns: conversation.dialogs }
      report.unstructured += 1
      if (split === 'train') await plain.add(unstructuredRow(conversation))
    }
    if (split === 'test') {
      await testset.add({ id, kind: example.kind, prompt })
      report.heldOut.all += 1
      if (example.rows) report.heldOut.structured += 1
    }
    await examples.add(example)
  }
  for (const output of [apar, flat, plain, testset, examples]) await output.close()
  return report
}
