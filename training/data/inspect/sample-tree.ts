import type { Segment, Token, TokenTree } from '../../../shared/token-tree.ts'
import { CHILD, FORK } from '../rows.ts'
import type { ShardMeta } from '../shards/meta.ts'
import type { ShardExample } from '../shards/reader.ts'
import { branchesOf, placesOfExample } from './branches.ts'
import type { ExampleRecord, RecordedPart } from './build-records.ts'
import type { TokenNames } from './token-names.ts'

const WORDS = { written: 'learned', given: 'masked' } as const

/** The tokens of an example as the trainer sees them. @throws AparError when the example is not a tree of branches. */
export function treeOfExample(
  example: ShardExample,
  meta: ShardMeta,
  names: TokenNames,
): TokenTree['segments'] {
  const branches = branchesOf(example, meta.child)
  const marks = new Set([meta.fork, meta.child, ...meta.eos])
  const segments = example.segments.map(({ parent, tokens, learned }, index): Segment => {
    const texts = names.texts(tokens)
    return {
      parent,
      branch: branches[index] ?? 0,
      tokens: Array.from(tokens, (id, at): Token => {
        const text = texts[at] ?? ''
        const special = names.special(id) ?? (marks.has(id) ? text : undefined)
        return { id, special, text: special === undefined ? text : '', given: learned[at] === 0 }
      }),
    }
  })
  placesOfExample(example.number, segments)
  return segments
}

/** A conversation that is not in the shards, as text: each run of text stands for the tokens that it would become. */
export function treeOfRecord({ prompt = '', parts, turns }: ExampleRecord): TokenTree['segments'] {
  if (!parts) {
    const tokens = (turns ?? []).flatMap((turn) => [
      textToken(turn.prompt, true),
      textToken(turn.response, false),
    ])
    return [{ parent: undefined, branch: 0, tokens }]
  }
  const segments: (Segment & { tokens: Token[] })[] = [
    { parent: undefined, branch: 0, tokens: [textToken(prompt, true)] },
  ]
  let lastBranch = 0
  // What is still to be added, the next one last: parts go on from one another, a detail before the part that follows.
  const open: { parts: readonly RecordedPart[]; at: number; segment: number; branch: number }[] = [
    { parts, at: 0, segment: 0, branch: 0 },
  ]
  for (let run = open.pop(); run; run = open.pop()) {
    const { branch } = run
    const { segment } = run
    for (let { at } = run; at < run.parts.length; at++) {
      const { text, detail } = run.parts[at] ?? { text: '' }
      segments[segment]?.tokens.push(textToken(text, false))
      if (!detail) continue
      segments[segment]?.tokens.push(markToken(FORK, false))
      const child =
        segments.push({ parent: segment, branch: ++lastBranch, tokens: [markToken(CHILD, true)] }) - 1
      if (at + 1 < run.parts.length) {
        const next = segments.push({ parent: segment, branch, tokens: [] }) - 1
        open.push({ parts: run.parts, at: at + 1, segment: next, branch })
      }
      open.push({ parts: detail, at: 0, segment: child, branch: lastBranch })
      break
    }
  }
  return segments
}

/** The tree with its heading. */
export function sampleTree(
  title: string,
  facts: TokenTree['facts'],
  segments: TokenTree['segments'],
): TokenTree {
  return { title, facts, words: WORDS, segments }
}

function textToken(text: string, given: boolean): Token {
  return { text, given }
}

function markToken(special: string, given: boolean): Token {
  return { text: '', special, given }
}
