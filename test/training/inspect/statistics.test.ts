import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { statisticsTables } from '../../../cli/data/stats.ts'
import { buildStatistics, summaryOf } from '../../../training/data/inspect/build-statistics.ts'
import { ShardStatistics } from '../../../training/data/inspect/shard-statistics.ts'
import type { ShardExample } from '../../../training/data/shards/reader.ts'
import type { ShardMeta } from '../../../training/data/shards/writer.ts'
import { tinyBuild } from '../../support/tiny-build.ts'

const meta: ShardMeta = {
  format: 'apar-shards',
  version: 2,
  tokens: 'uint16',
  vocab_size: 100,
  bos: null,
  eos: [2],
  fork: 3,
  child: 4,
  examples: 1,
  longest_example: 0,
  longest_path: 0,
  kinds: { structured: 1, serial: 0, unstructured: 0 },
  shards: [],
}

const segment = (parent: number | undefined, ids: number[], masked: number) => ({
  parent,
  tokens: Uint16Array.from(ids),
  learned: Uint8Array.from(ids, (_, at) => (at < masked ? 0 : 1)),
})

describe('statistics of shards', () => {
  it('count what a structured example holds', () => {
    const example: ShardExample = {
      number: 0,
      kind: 'structured',
      source: 0,
      segments: [
        // A prompt of 5 tokens; "a", fork.
        segment(undefined, [1, 50, 51, 52, 53, 10, 3], 5),
        // Child, "b c", fork.
        segment(0, [4, 11, 12, 3], 1),
        // "d", end.
        segment(0, [13, 2], 0),
        // Child, "e f g h i", end.
        segment(1, [4, 14, 15, 16, 17, 18, 2], 1),
        segment(1, [2], 0),
      ],
    }
    const statistics = new ShardStatistics()
    statistics.add(example, meta)
    const summary = statistics.toJson()
    expect(summary).toMatchObject({
      examples: { structured: 1, serial: 0, unstructured: 0 },
      tokens: 21,
      learned_share: 14 / 21,
      // Of 16 tokens behind the prompt, 12 are in branches.
      branch_share: 12 / 16,
      // "a b c e f g h i d" and an end, against a, fork, child, b, c, fork, child, e f g h i, end.
      ideal_speedup: 10 / 13,
      forks_per_answer: { min: 2, max: 2 },
      tokens_per_example: { min: 21, max: 21 },
      tokens_per_path: { count: 3, min: 9, max: 18, mean: (9 + 18 + 12) / 3 },
      tokens_per_segment: { count: 5, min: 1, max: 7 },
      branch_depth: { count: 3, min: 1, p50: 2, max: 3 },
    })
  })

  it('of nothing have no shares', () => {
    expect(new ShardStatistics().toJson()).toMatchObject({
      tokens: 0,
      learned_share: null,
      ideal_speedup: null,
      tokens_per_path: null,
    })
  })
})

describe('statistics of a build', () => {
  it('count conversations, rules and shards, and are shown as tables', async () => {
    const summary = summaryOf(await buildStatistics(tinyBuild()))
    expect(summary.report).toMatchObject({ conversations: 6, structured: { list: 2 }, leftOut: 3 })
    const sentence = 'list numbers that are not consecutive'
    expect(summary.refused).toEqual([
      { rule: 'list_numbering', sentence, unstructured: 0, leftOut: 2 },
      {
        rule: 'no_structure',
        sentence: 'no list, no sections, and not more than 2 paragraphs: there is nothing to fork',
        ...{ unstructured: 1, leftOut: 0 },
      },
      { rule: 'template', sentence: expect.any(String), unstructured: 0, leftOut: 1 },
    ])
    expect(summary.shards.train.examples).toEqual({ structured: 1, serial: 1, unstructured: 1 })
    expect(summary.shards.train.forks_per_answer).toMatchObject({ min: 3, max: 3 })
    const tables = statisticsTables(summary)
    expect(tables).toMatch(/^structured: list +2$/m)
    expect(tables).toMatch(/^structured examples +1 +1$/m)
    expect(tables).toMatch(/^forks per structured answer +3 +3\.0 +3 +3 +3 +3$/m)
    expect(tables).toMatch(/^list_numbering +0 +2 +list numbers that are not consecutive$/m)
    expect(tables).not.toMatch(/ $/m)
  })

  it('name what is missing', async () => {
    const build = tinyBuild()
    rmSync(join(build, 'test'), { recursive: true })
    await expect(buildStatistics(build)).rejects.toThrow(/test\/meta\.json: cannot be read/)
    rmSync(join(build, 'refused.jsonl'))
    await expect(buildStatistics(build)).rejects.toThrow(/refused\.jsonl: cannot be read/)
    writeFileSync(join(build, 'report.json'), '{"conversations": -1}')
    await expect(buildStatistics(build)).rejects.toThrow(
      /report\.json: not the report of a build: conversations: /,
    )
  })
})
