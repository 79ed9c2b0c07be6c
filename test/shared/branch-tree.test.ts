import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { BranchTree, OrderedText } from '../../shared/branch-tree.ts'
import type { Joints, StreamEvent } from '../../shared/protocol/events.ts'

/** An answer as a tree: the text pieces of one branch; each piece except the last is followed by a fork. */
interface Answer {
  pieces: string[]
  details: Answer[]
}

function answerOfDepth(depth: number): fc.Arbitrary<Answer> {
  const text = fc.string({ maxLength: 6, unit: 'grapheme' })
  if (depth === 1) return text.map((piece) => ({ pieces: [piece], details: [] }))
  const forks = fc.array(fc.tuple(text, answerOfDepth(depth - 1)), { maxLength: 3 })
  return fc.tuple(forks, text).map(([forks, last]) => ({
    pieces: [...forks.map(([piece]) => piece), last],
    details: forks.map(([, detail]) => detail),
  }))
}

/** Reference implementation of document order, with white space kept. */
function flatten(node: Answer): string {
  return node.pieces.map((piece, i) => piece + (node.details[i] ? flatten(node.details[i]) : '')).join('')
}

type Step = Record<string, unknown> & { type: string }

/** Events of an answer in an interleaving chosen by `pick`: one queue per branch; a fork opens the child's queue. */
function play(root: Answer, pick: (n: number) => number): StreamEvent[] {
  const events: StreamEvent[] = []
  const queues: Step[][] = []
  let nextBranch = 0
  const open = (node: Answer) => {
    const branch = nextBranch++
    const queue: Step[] = []
    let at = 0
    node.pieces.forEach((text, i) => {
      for (const char of text) queue.push({ type: 'delta', branch, text: char })
      at += text.length
      const detail = node.details[i]
      if (detail) queue.push({ type: 'fork', parent: branch, at, detail })
    })
    queue.push({ type: 'branch_end', branch, reason: 'stop' })
    queues.push(queue)
    return branch
  }
  open(root)
  for (;;) {
    const ready = queues.filter((queue) => queue.length > 0)
    const step = ready[pick(ready.length)]?.shift()
    if (!step) break
    const { detail, ...rest } = step
    const fields = detail ? { ...rest, branch: open(detail as Answer) } : rest
    events.push({ ...fields, seq: events.length } as unknown as StreamEvent)
  }
  return events
}

describe('OrderedText', () => {
  it('emits document order for every interleaving, and only final text', () => {
    fc.assert(
      fc.property(answerOfDepth(4), fc.infiniteStream(fc.nat()), (root, choices) => {
        const events = play(root, (n) => (n === 0 ? 0 : (choices.next().value as number) % n))
        const ordered = new OrderedText()
        const expected = flatten(root)
        let text = ''
        for (const event of events) {
          text += ordered.push(event)
          expect(expected.startsWith(text)).toBe(true)
        }
        expect(text).toBe(expected)
        expect(ordered.tree.text()).toBe(expected)
      }),
      { numRuns: 500 },
    )
  })

  it('emits the same mended text for every interleaving, and only final text', () => {
    fc.assert(
      fc.property(answerOfDepth(3), fc.infiniteStream(fc.nat()), (root, choices) => {
        const read = (pick: (n: number) => number) => {
          const ordered = new OrderedText('mended')
          const pieces = play(root, pick).map((event) => ordered.push(event))
          return { text: pieces.join(''), tree: ordered.tree.text() }
        }
        const serial = read(() => 0)
        expect(serial.tree).toBe(serial.text)
        expect(read((n) => (n === 0 ? 0 : (choices.next().value as number) % n))).toEqual(serial)
      }),
      { numRuns: 500 },
    )
  })

  it('emits the received text of an aborted stream', () => {
    const ordered = new OrderedText()
    const events = [
      { type: 'delta', branch: 0, text: 'a' },
      { type: 'fork', branch: 1, parent: 0, at: 1 },
      { type: 'delta', branch: 0, text: 'c' },
      { type: 'delta', branch: 1, text: 'b' },
      { type: 'done', reason: 'abort' },
    ]
    const pieces = events.map((event, seq) => ordered.push({ ...event, seq } as unknown as StreamEvent))
    expect(pieces).toEqual(['a', '', '', 'b', 'c'])
  })

  it('refuses events of unknown branches', () => {
    const tree = new BranchTree()
    expect(() => tree.apply({ type: 'delta', seq: 1, branch: 3, text: 'x' })).toThrow('unknown branch 3')
    tree.apply({ type: 'fork', seq: 1, branch: 1, parent: 0, at: 0 })
    expect(() => tree.apply({ type: 'fork', seq: 2, branch: 1, parent: 0, at: 0 })).toThrow('forked twice')
  })
})

describe('joints', () => {
  const run = (joints: Joints, before: string, detail: string, after: string) => {
    const ordered = new OrderedText(joints)
    const events = [
      { type: 'delta', branch: 0, text: before },
      { type: 'fork', branch: 1, parent: 0, at: before.length },
      ...[...after].map((text) => ({ type: 'delta', branch: 0, text })),
      { type: 'branch_end', branch: 0, reason: 'stop' },
      ...[...detail].map((text) => ({ type: 'delta', branch: 1, text })),
      { type: 'branch_end', branch: 1, reason: 'stop' },
    ]
    const text = events
      .map((event, seq) => ordered.push({ ...event, seq } as unknown as StreamEvent))
      .join('')
    expect(ordered.tree.text()).toBe(text)
    return text
  }

  it('kept: adds no white space', () => {
    expect(run('kept', '1. A:', ' x', '\n2. B')).toBe('1. A: x\n2. B')
  })

  it('mended: a detail after a list item starts on a new line, a continuation after a blank line', () => {
    expect(run('mended', '1. A:', 'x', '2. B')).toBe('1. A:\nx\n\n2. B')
    expect(run('mended', '1. A:', '\nx', '2. B')).toBe('1. A:\nx\n\n2. B')
  })

  it('mended: a detail after plain text continues the line', () => {
    expect(run('mended', 'First.', ' Rest.', 'Second.')).toBe('First. Rest.\n\nSecond.')
  })

  it('mended: adds nothing before an empty text, and only one blank line before line breaks', () => {
    expect(run('mended', '1. A:', 'x', '')).toBe('1. A:\nx')
    expect(run('mended', '1. A:', '', '\n\n2. B')).toBe('1. A:\n\n2. B')
  })
})
