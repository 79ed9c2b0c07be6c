import { describe, expect, it } from 'vitest'
import { sourceOf } from '../../edge/web/markdown/source.ts'
import { BranchTree } from '../../shared/branch-tree.ts'
import type { StreamEvent } from '../../shared/protocol/events.ts'

type Unnumbered = StreamEvent extends infer E ? (E extends StreamEvent ? Omit<E, 'seq'> : never) : never

function treeOf(...events: Unnumbered[]): BranchTree {
  const tree = new BranchTree()
  for (const [seq, event] of events.entries()) tree.apply({ ...event, seq } as StreamEvent)
  return tree
}

const delta = (branch: number, text: string): Unnumbered => ({ type: 'delta', branch, text })
const fork = (branch: number, at: number): Unnumbered => ({ type: 'fork', branch, parent: 0, at })

describe('the Markdown of an answer that grows in several places', () => {
  const isGrowing = (tree: BranchTree) => (id: number) => tree.branch(id)?.reason === undefined

  it('has the text in document order, with the ranges of its branches', () => {
    const tree = treeOf(delta(0, '1. a:'), fork(1, 5), delta(0, '\n2. b'), delta(1, ' detail'))
    const { markdown, ranges } = sourceOf(tree.pieces(), isGrowing(tree))
    expect(markdown).toBe('1. a: detail\n2. b')
    expect(ranges.map(({ branch, from, to }) => [branch, markdown.slice(from, to)])).toEqual([
      [0, '1. a:'],
      [1, ' detail'],
      [0, '\n2. b'],
    ])
    expect(ranges.map(({ growing }) => growing)).toEqual([false, true, true])
  })

  it('closes a code block that a branch is in the middle of, until it is complete', () => {
    const begun = [delta(0, '1. a:'), fork(1, 5), delta(0, '\n2. b'), delta(1, '\n````sh\ntar cf\n```')]
    const tree = treeOf(...begun)
    expect(sourceOf(tree.pieces(), isGrowing(tree)).markdown).toBe(
      '1. a:\n````sh\ntar cf\n```\n````\n\n\n2. b',
    )
    const ended = treeOf(...begun, delta(1, '\n````'), { type: 'branch_end', branch: 1, reason: 'stop' })
    expect(sourceOf(ended.pieces(), isGrowing(ended)).markdown).toBe(ended.text())
  })

  it('leaves the end of the answer as it is', () => {
    const tree = treeOf(delta(0, '```\ncode'))
    expect(sourceOf(tree.pieces(), isGrowing(tree)).markdown).toBe('```\ncode')
  })
})
