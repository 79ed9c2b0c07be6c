import { expect, test } from 'vitest'
import { branchLines, printable } from '../../cli/chat/branch-lines.ts'
import { LiveBlock } from '../../cli/chat/screen.ts'
import { BranchTree } from '../../shared/branch-tree.ts'

function tree(): BranchTree {
  const tree = new BranchTree()
  tree.apply({ type: 'delta', seq: 1, branch: 0, text: '1. one:\n2. two:' })
  tree.apply({ type: 'fork', seq: 2, branch: 1, parent: 0, at: 7 })
  tree.apply({ type: 'fork', seq: 3, branch: 2, parent: 0, at: 15 })
  tree.apply({ type: 'delta', seq: 4, branch: 1, text: ' the first' })
  tree.apply({ type: 'branch_end', seq: 5, branch: 1, reason: 'stop' })
  return tree
}

test('one line per branch, in document order, indented by depth', () => {
  expect(branchLines(tree(), 40, 10)).toEqual(['▸ 0 1. one: 2. two:', '  ✓ 1 the first', '  ▸ 2 '])
})

test('a long text shows its end within the columns', () => {
  for (const line of branchLines(tree(), 14, 10)) expect(line.length).toBeLessThan(14)
  expect(branchLines(tree(), 14, 10)[0]).toBe('▸ 0 … 2. two:')
})

test('with more branches than rows, shows branches that have not ended and counts the others', () => {
  expect(branchLines(tree(), 40, 2)).toEqual(['▸ 0 1. one: 2. two:', '  ... 2 more'])
})

test('text cannot contain terminal control sequences', () => {
  expect(printable('a\u001b[2Jb\rc\u0007\u009bd\n')).toBe('abcd\n')
})

test('a block is redrawn in place', () => {
  let written = ''
  const block = new LiveBlock({ write: (text) => (written += text) })
  block.draw(['a', 'b'])
  expect(written).not.toContain('\u001b[2A')
  block.draw(['c'])
  expect(written).toContain('\u001b[2A')
})
