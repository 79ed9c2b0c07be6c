import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  documentOrder,
  documentText,
  phasesOf,
  placesOf,
  promptLength,
  type Segment,
  type Token,
} from '../../shared/token-tree.ts'

const token = (text: string, given = false): Token => ({ text, given })
const segment = (parent: number | undefined, branch: number, ...tokens: Token[]): Segment => ({
  parent,
  branch,
  tokens,
})

/** Branch 0 forks 1 and 2; branch 1 forks 3. */
const tree: Segment[] = [
  segment(undefined, 0, token('?', true), token('a')),
  segment(0, 1, token('b', true), token('c')),
  segment(0, 0, token('d')),
  segment(1, 3, token('e'), token('f')),
  segment(1, 1, token('g')),
  segment(2, 2, token('h')),
  segment(2, 0, token('i')),
]

describe('places', () => {
  it('have a position, a depth and what follows', () => {
    expect(placesOf(tree)).toEqual([
      { start: 0, depth: 1, forks: [1], next: 2 },
      { start: 2, depth: 2, forks: [3], next: 4 },
      { start: 2, depth: 1, forks: [5], next: 6 },
      { start: 4, depth: 3, forks: [], next: undefined },
      { start: 4, depth: 2, forks: [], next: undefined },
      { start: 3, depth: 2, forks: [], next: undefined },
      { start: 3, depth: 1, forks: [], next: undefined },
    ])
  })

  it('refuse what is no tree of branches', () => {
    expect(() => placesOf([segment(0, 0)])).toThrow('segment 0: parent 0 does not come before it')
    expect(() => placesOf([segment(undefined, 0), segment(undefined, 1)])).toThrow(
      'segment 1: parent undefined',
    )
    expect(() => placesOf([segment(undefined, 0), segment(2, 0), segment(0, 0)])).toThrow(
      'segment 1: parent 2',
    )
    expect(() => placesOf([segment(undefined, 0), segment(0, 0), segment(0, 0)])).toThrow(
      'branch 0 goes on twice',
    )
  })
})

describe('document order', () => {
  it('puts a detail right behind its fork', () => {
    expect(documentOrder(placesOf(tree))).toEqual([0, 1, 3, 4, 2, 5, 6])
    expect(documentText(tree)).toBe('?abcefgdhi')
  })

  it('of several thousand forks in one branch needs no deep stack', () => {
    const long = [segment(undefined, 0, token('x'))]
    let main = 0
    for (let branch = 1; branch <= 20_000; branch++) {
      long.push(segment(main, branch, token('y')))
      main = long.push(segment(main, 0, token('x'))) - 1
    }
    expect(documentText(long)).toBe(`x${'yx'.repeat(20_000)}`)
  })
})

describe('decode order', () => {
  it('has a phase for every set of branches that are decoded at once', () => {
    expect(promptLength(tree)).toBe(1)
    expect(phasesOf(tree)).toEqual([
      { first: 1, last: 1, runs: [{ segment: 0, from: 1, to: 2 }] },
      {
        first: 2,
        last: 2,
        runs: [
          { segment: 2, from: 0, to: 1 },
          { segment: 1, from: 0, to: 1 },
        ],
      },
      {
        first: 3,
        last: 3,
        runs: [
          { segment: 6, from: 0, to: 1 },
          { segment: 1, from: 1, to: 2 },
          { segment: 5, from: 0, to: 1 },
        ],
      },
      {
        first: 4,
        last: 4,
        runs: [
          { segment: 4, from: 0, to: 1 },
          { segment: 3, from: 0, to: 1 },
        ],
      },
      { first: 5, last: 5, runs: [{ segment: 3, from: 1, to: 2 }] },
    ])
  })

  it('holds every token behind the prompt once, each one step behind the one before it', () => {
    // A tree by its forks: each number says which segment forks, and how long the new ones are.
    const forks = fc.array(fc.record({ at: fc.nat(), own: fc.nat(5), next: fc.nat(5) }), { maxLength: 30 })
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 4 }), forks, (prompt, list) => {
        const segments = [segment(undefined, 0, ...Array(prompt).fill(token('p', true)), token('x'))]
        const ends = [0]
        for (const [index, { at, own, next }] of list.entries()) {
          const parent = ends.splice(at % ends.length, 1)[0] ?? 0
          const branch = segments[parent]?.branch ?? 0
          ends.push(segments.push(segment(parent, index + 1, ...Array(own).fill(token('y')))) - 1)
          ends.push(segments.push(segment(parent, branch, ...Array(next).fill(token('z')))) - 1)
        }
        const places = placesOf(segments)
        const seen = new Set<string>()
        for (const { first, last, runs } of phasesOf(segments)) {
          for (const { segment, from, to } of runs) {
            expect((places[segment]?.start ?? 0) + from).toBe(first)
            expect((places[segment]?.start ?? 0) + to).toBe(last + 1)
            for (let at = from; at < to; at++) seen.add(`${segment}:${at}`)
          }
        }
        expect(seen.size).toBe(segments.reduce((sum, { tokens }) => sum + tokens.length, 0) - prompt)
      }),
    )
  })
})
