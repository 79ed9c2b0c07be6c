import type { ExampleKind } from '../encode/tree.ts'
import { type ShardExample, ShardReader, type ShardSegment } from '../shards/reader.ts'
import type { ShardMeta } from '../shards/writer.ts'
import { branchesOf } from './branches.ts'
import { Distribution, type Summary } from './distribution.ts'

/** What is counted of every example, and of the structured ones only. */
const ALL = ['tokens', 'path', 'segment'] as const
const STRUCTURED = ['forks', 'depth'] as const
export type Measure = (typeof ALL)[number] | (typeof STRUCTURED)[number]

/** What the shards of one folder hold. */
export class ShardStatistics {
  readonly examples: Record<ExampleKind, number> = { structured: 0, serial: 0, unstructured: 0 }
  /** Tokens per example, per path (from the root to the end of a branch) and per segment; forks per structured answer; depth of each of its branches. */
  readonly distributions: Record<Measure, Distribution> = {
    tokens: new Distribution(),
    path: new Distribution(),
    segment: new Distribution(),
    forks: new Distribution(),
    depth: new Distribution(),
  }
  tokens = 0
  learned = 0
  /** Of structured answers, without their prompts. */
  readonly answers = { tokens: 0, inBranches: 0, serialTokens: 0, longestPaths: 0 }

  add(example: ShardExample, meta: ShardMeta): void {
    const { distributions } = this
    this.examples[example.kind] += 1
    const { segments } = example
    const branches = branchesOf(example, meta.child)
    /** Tokens of the path through each segment, and the depth of its branch. */
    const ends: number[] = []
    const depths: number[] = []
    const goesOn = new Set<number>()
    let tokens = 0
    for (const [index, { parent = -1, tokens: own, learned }] of segments.entries()) {
      const sameBranch = branches[index] === branches[parent]
      if (sameBranch) goesOn.add(parent)
      ends.push((ends[parent] ?? 0) + own.length)
      depths.push((depths[parent] ?? 0) + (sameBranch ? 0 : 1))
      tokens += own.length
      for (const flag of learned) this.learned += flag
      distributions.segment.add(own.length)
    }
    this.tokens += tokens
    distributions.tokens.add(tokens)
    for (const [index, end] of ends.entries()) {
      if (goesOn.has(index)) continue
      distributions.path.add(end)
      if (example.kind === 'structured') distributions.depth.add(depths[index] ?? 0)
    }
    if (example.kind === 'structured') this.#addAnswer(segments, branches, ends, meta)
  }

  #addAnswer(
    segments: readonly ShardSegment[],
    branches: readonly number[],
    ends: readonly number[],
    meta: ShardMeta,
  ) {
    const [root] = segments
    const firstLearned = root?.learned.indexOf(1) ?? -1
    const prompt = firstLearned === -1 ? (root?.tokens.length ?? 0) : firstLearned
    // Of a serial answer: without forks, and with one end of sequence.
    const structural = new Set([meta.fork, meta.child, ...meta.eos])
    let serial = 1
    for (const [index, { tokens }] of segments.entries()) {
      const own = index === 0 ? tokens.subarray(prompt) : tokens
      this.answers.tokens += own.length
      if (branches[index] !== 0) this.answers.inBranches += own.length
      for (const id of own) if (!structural.has(id)) serial += 1
    }
    this.answers.serialTokens += serial
    this.answers.longestPaths += ends.reduce((longest, end) => Math.max(longest, end), 0) - prompt
    this.distributions.forks.add(branches.reduce((most, branch) => Math.max(most, branch), 0))
  }

  toJson(): ShardSummary {
    const { tokens, inBranches, serialTokens, longestPaths } = this.answers
    const summary = (name: Measure) => this.distributions[name].summary() ?? null
    return {
      examples: this.examples,
      tokens: this.tokens,
      learned_share: share(this.learned, this.tokens),
      branch_share: share(inBranches, tokens),
      ideal_speedup: share(serialTokens, longestPaths),
      forks_per_answer: summary('forks'),
      branch_depth: summary('depth'),
      tokens_per_example: summary('tokens'),
      tokens_per_path: summary('path'),
      tokens_per_segment: summary('segment'),
    }
  }
}

export interface ShardSummary {
  examples: Record<ExampleKind, number>
  tokens: number
  /** Tokens in the loss / all tokens; null without tokens. */
  learned_share: number | null
  /** Structured answers: tokens outside of the root branch / all tokens. */
  branch_share: number | null
  /** Structured answers: tokens of the serial answers / tokens of the longest paths, prompts left out. */
  ideal_speedup: number | null
  forks_per_answer: Summary | null
  branch_depth: Summary | null
  tokens_per_example: Summary | null
  tokens_per_path: Summary | null
  tokens_per_segment: Summary | null
}

/** Reads the examples of a folder one at a time. @throws AparError when the shards are broken. */
export async function shardStatistics(folder: string): Promise<ShardStatistics> {
  const statistics = new ShardStatistics()
  const reader = await ShardReader.open(folder)
  try {
    for await (const example of reader.examples()) statistics.add(example, reader.meta)
  } finally {
    await reader.close()
  }
  return statistics
}

function share(part: number, whole: number): number | null {
  return whole === 0 ? null : part / whole
}
