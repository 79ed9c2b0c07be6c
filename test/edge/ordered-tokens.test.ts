import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { OrderedTokens } from '../../edge/streams/http/ordered-tokens.ts'

const token = (branch: number, id: number) => [1, branch, id, 0]
const fork = (parent: number, child: number) => [2, parent, child, 0]
const end = (branch: number, by?: number) => [3, branch, 1, by === undefined ? 0 : by + 1]

/** A branch's ids, and its children where they fork. */
type Own = (number | Own)[]
const flat = (own: Own): number[] => own.flatMap((one) => (typeof one === 'number' ? one : flat(one)))

/** What happens to live branches in turn: a token, a fork or an end, as rows, and the ids in document order. */
const answers = fc
  .array(fc.tuple(fc.nat(7), fc.constantFrom('token', 'token', 'token', 'fork', 'end', 'cut')), {
    maxLength: 80,
  })
  .map((steps) => {
    const owns: Own[] = [[]]
    const live = [0]
    const rows: number[][] = []
    for (const [index, [pick, what]] of steps.entries()) {
      const branch = live[pick % live.length]
      const own = owns[branch ?? 0]
      if (branch === undefined || !own) break
      if (what === 'token') {
        own.push(index)
        rows.push(token(branch, index))
      } else if (what === 'fork') {
        const child: Own = []
        own.push(child)
        rows.push(fork(branch, owns.length))
        live.push(owns.length)
        owns.push(child)
      } else {
        if (what === 'end') own.push(index)
        rows.push(end(branch, what === 'end' ? index : undefined))
        live.splice(live.indexOf(branch), 1)
      }
    }
    return { rows, ids: flat(owns[0] ?? []) }
  })

describe('the ids of an answer', () => {
  it('are in document order, each once, however they come', () => {
    fc.assert(
      fc.property(answers, fc.integer({ min: 1, max: 9 }), ({ rows, ids }, together) => {
        const ordered = new OrderedTokens()
        const taken: number[] = []
        for (let from = 0; from < rows.length; from += together) {
          ordered.push(rows.slice(from, from + together).flat())
          taken.push(...ordered.take())
        }
        taken.push(...ordered.take(true))
        expect(taken).toEqual(ids)
        expect(ordered.take(true)).toEqual([])
      }),
    )
  })

  it('of a branch wait until no other can come before them', () => {
    const ordered = new OrderedTokens()
    ordered.push([token(0, 10), fork(0, 1), token(0, 30), token(1, 20)].flat())
    expect(ordered.take()).toEqual([10, 20])
    ordered.push([token(0, 31), end(0, 2)].flat())
    expect(ordered.take()).toEqual([])
    ordered.push([token(1, 21), end(1, 2)].flat())
    expect(ordered.take()).toEqual([21, 2, 30, 31, 2])
  })

  it('end with the last token that the answer has; those that ended branches do not count', () => {
    const ordered = new OrderedTokens()
    ordered.push(
      [token(0, 10), fork(0, 1), token(1, 20), end(1, 2), token(0, 30), token(0, 31), end(0, 2)].flat(),
    )
    expect(ordered.take(true, 3)).toEqual([10, 20, 2, 30])
    expect(ordered.take(true, 3)).toEqual([])
  })

  it('are those of known branches: a row cannot make one its own parent', () => {
    const ordered = new OrderedTokens()
    ordered.push(
      [token(5, 1), fork(0, 0), fork(0, 1), fork(1, 1), fork(1, 0), token(1, 20), token(0, 10)].flat(),
    )
    expect(ordered.take(true)).toEqual([20, 10])
  })
})
