import { describe, expect, it } from 'vitest'
import { type Message, newestLeaf, pathTo, siblingsOf, titleOf } from '../../edge/web/history/conversation.ts'

function prompt(id: string, parent: string | null, created: number): Message {
  return { id, conversation: 'c', parent, created, role: 'user', text: id }
}

/** a — b — c, and beside b a newer b2 — c2. */
const messages = [
  prompt('a', null, 1),
  prompt('b', 'a', 2),
  prompt('c', 'b', 3),
  prompt('b2', 'a', 4),
  prompt('c2', 'b2', 5),
]
const ids = (found: readonly Message[]) => found.map(({ id }) => id)

describe('the messages of a conversation', () => {
  it('have a path to each leaf', () => {
    expect(ids(pathTo(messages, 'c'))).toEqual(['a', 'b', 'c'])
    expect(ids(pathTo(messages, 'c2'))).toEqual(['a', 'b2', 'c2'])
    expect(pathTo(messages, null)).toEqual([])
    expect(pathTo(messages, 'unknown')).toEqual([])
  })

  it('have siblings in the order of their creation', () => {
    const [, b] = messages
    if (!b) throw new Error('no b')
    expect(ids(siblingsOf(messages.toReversed(), b))).toEqual(['b', 'b2'])
  })

  it('go on with the newest message when another version is chosen', () => {
    expect(newestLeaf(messages, 'a')).toBe('c2')
    expect(newestLeaf(messages, 'b')).toBe('c')
  })

  it('may be cyclic in an imported file', () => {
    const cycle = [prompt('x', 'y', 1), prompt('y', 'x', 2)]
    expect(ids(pathTo(cycle, 'x'))).toEqual(['y', 'x'])
    expect(newestLeaf(cycle, 'x')).toBe('x')
  })
})

describe('a title', () => {
  it('is the prompt, on one line and not too long', () => {
    expect(titleOf('  How do\nI use tar? ')).toBe('How do I use tar?')
    const long = titleOf('word '.repeat(50))
    expect(long.length).toBeLessThanOrEqual(60)
    expect(long).toMatch(/word…$/)
  })
})
