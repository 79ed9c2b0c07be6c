import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { Conversation } from '../../training/data/conversation.ts'
import { extractConversation } from '../../training/data/extract/extract.ts'
import { PROFILES } from '../../training/data/extract/profile.ts'
import { referenceFiles } from '../../training/data/extract/reference/files.ts'
import { MAX_REPLACED_CHARACTERS, splitList } from '../../training/data/extract/reference/lists.ts'
import { structuredRows } from '../../training/data/rows.ts'

/** Made by make.py: conversations of our own, and what the reference's scripts wrote for them. */
const GOLDEN = 'test/golden/reference-data'
type Golden = Record<string, Record<string, { bytes: number; sha256: string }>>
const golden = JSON.parse(readFileSync(join(GOLDEN, 'golden.json'), 'utf8')) as Golden
const conversations = readFileSync(join(GOLDEN, 'conversations.jsonl'), 'utf8')
  .split('\n')
  .filter((line) => line !== '')
  .map((line) => JSON.parse(line) as Conversation)

describe('the profile reference', () => {
  it.each(Object.keys(golden))(
    "writes the files of the reference's scripts: test share %s conversations",
    (run) => {
      const [share = 0, count = 0] = run.split(' of ').map(Number)
      const files = Object.entries(referenceFiles(conversations.slice(0, count), share)).map(
        ([name, pieces]) => {
          const bytes = Buffer.from([...pieces].join(''))
          return [name, { bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') }]
        },
      )
      expect(Object.fromEntries(files)).toEqual(golden[run])
    },
  )

  it('gives one conversation at a time the rows and the place that the files have', () => {
    const files = referenceFiles(conversations, 0.12)
    const read = (name: 'apar.json' | 'unstructured.json') => JSON.parse([...files[name]].join(''))
    const ids = new Map(conversations.map((conversation) => [conversation.id, conversation]))
    const extracted = [...ids.values()].map((conversation) => ({
      conversation,
      extraction: extractConversation(conversation, PROFILES.reference),
    }))
    const rows = extracted.flatMap(({ conversation, extraction }) =>
      'structure' in extraction
        ? [
            ...structuredRows(conversation, extraction.structure, {
              fork: '[SplitMask]',
              child: '[SplitSop]',
            }),
          ]
        : [],
    )
    const wanted = read('apar.json') as { index: string }[]
    expect(wanted.length).toBeGreaterThan(100)
    expect(rows).toEqual(expect.arrayContaining(wanted))

    const kept = extracted.filter(({ extraction }) => 'rule' in extraction && extraction.keep)
    const unstructured = new Set((read('unstructured.json') as { id: string }[]).map(({ id }) => id))
    // Refused on purpose where the reference is not: special tokens as text.
    const marked = extracted.filter(({ extraction }) => 'rule' in extraction && extraction.rule === 'marker')
    for (const { conversation } of marked) unstructured.delete(conversation.id)
    expect(new Set(kept.map(({ conversation }) => conversation.id))).toEqual(unstructured)
  })

  it("refuses what would take longer than the reference's patterns are worth", () => {
    const item = '1. Title: a detail that is long enough\n'
    const answer = item.repeat(Math.ceil(Math.sqrt(MAX_REPLACED_CHARACTERS / item.length)) + 1)
    expect(splitList(answer)).toEqual({ rule: 'too_long' })
  })
})
