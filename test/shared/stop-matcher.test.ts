import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { StopMatcher } from '../../shared/stop-matcher.ts'

/** Reference implementation on the whole text: the text before the match that ends first. */
function expected(text: string, stops: readonly string[]): { text: string; stopped: boolean } {
  for (let end = 1; end <= text.length; end++) {
    const starts = stops.filter((stop) => text.slice(0, end).endsWith(stop)).map((stop) => end - stop.length)
    if (starts.length > 0) return { text: text.slice(0, Math.min(...starts)), stopped: true }
  }
  return { text, stopped: false }
}

function inPieces(pieces: readonly string[], stops: readonly string[]): { text: string; stopped: boolean } {
  const matcher = new StopMatcher(stops)
  let text = ''
  for (const piece of pieces) {
    const matched = matcher.push(piece)
    text += matched.text
    if (matched.stopped) return { text, stopped: true }
  }
  return { text: text + matcher.release(), stopped: false }
}

// Only two letters, so that overlapping, nested and adjacent matches are frequent.
const word = fc.string({ unit: fc.constantFrom('a', 'b'), minLength: 1, maxLength: 5 })

describe('stop strings', () => {
  test('with half of a surrogate pair are found as the text has it, in UTF-8', () => {
    const matcher = new StopMatcher(['x\ud83d', '😀'])
    expect(matcher.push('ax\ufffdb')).toEqual({ text: 'a', stopped: true, stop: 'x\ufffd', rest: 1 })
    expect(new StopMatcher(['😀']).push('a😀')).toMatchObject({ text: 'a', stopped: true, stop: '😀' })
  })

  test('do not depend on how the text is split', () => {
    fc.assert(
      fc.property(fc.array(word, { maxLength: 8 }), fc.array(word, { maxLength: 3 }), (pieces, stops) => {
        expect(inPieces(pieces, stops)).toEqual(expected(pieces.join(''), stops))
      }),
      { numRuns: 2_000 },
    )
  })

  test('hold back only text that could start a match', () => {
    const matcher = new StopMatcher(['\n\nUSER:'])
    expect(matcher.push('one\n')).toEqual({ text: 'one', stopped: false })
    expect(matcher.push('\nUS')).toEqual({ text: '', stopped: false })
    expect(matcher.push('A')).toEqual({ text: '\n\nUSA', stopped: false })
  })

  test('text released at a fork is not sent again, and a match across the fork still ends the branch', () => {
    const matcher = new StopMatcher(['abc'])
    expect(matcher.push('xab')).toEqual({ text: 'x', stopped: false })
    expect(matcher.release()).toBe('ab')
    expect(matcher.push('cd')).toEqual({ text: '', stopped: true, stop: 'abc', rest: 1 })
  })

  test('without stop strings text is passed on at once', () => {
    expect(new StopMatcher([]).push('text')).toEqual({ text: 'text', stopped: false })
  })
})
