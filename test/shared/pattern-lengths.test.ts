import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { patternWithLengths } from '../../shared/protocol/pattern-lengths.ts'

const NO_MOST = Number.POSITIVE_INFINITY

describe('a pattern for texts of some lengths', () => {
  test.each<[pattern: string, least: number, most: number, expected: string]>([
    ['^[a-z]+$', 0, 20, '^[a-z]{1,20}$'],
    ['^[a-z]*$', 3, NO_MOST, '^[a-z]{3,}$'],
    ['^[a-z]*?$', 3, 8, '^[a-z]{3,8}$'],
    ['^[a-zA-Z_][a-zA-Z0-9_]*$', 1, 32, '^[a-zA-Z_][a-zA-Z0-9_]{0,31}$'],
    ['^(?:ab|c[d-f])\\p{L}{2,}\\.$', 6, 9, '^(?:ab|c[d-f])\\p{L}{3,6}\\.$'],
    ['\\u0041{2,9}', 0, 4, '\\u0041{2,4}'],
    ['^.+$', 0, 5, '^.{1,5}$'],
    ['^[😀é]+$', 2, 2, '^[😀é]{2,2}$'],
    ['a?', 1, 1, 'a{1,1}'],
    ['^[\\]^(|)]{2,}$', 0, 3, '^[\\]^(|)]{2,3}$'],
    ['^(a|bc{2}){1,3}$', 1, 9, '^(a|bc{2}){1,3}$'],
    ['^a$|^bc?$', 1, 2, '^a$|^bc?$'],
    ['^(?<year>\\d{4})(-\\d\\d){0,2}$', 4, 10, '^(?<year>\\d{4})(-\\d\\d){0,2}$'],
    ['', 0, 0, ''],
    ['^(a{0}|)$', 0, 0, '^(a{0}|)$'],
  ])('%s, %d to %d', (pattern, least, most, expected) => {
    expect(patternWithLengths(pattern, { least, most })).toBe(expected)
  })

  test.each<[why: string, pattern: string, least: number, most: number]>([
    ['there are none', '^[a-z]{4}$', 0, 3],
    ['there are none', '^ab[a-z]*$', 0, 1],
    ['two parts vary', '^[a-z]+(-[a-z]+)*$', 0, 20],
    ['a group varies', '^(ab)+$', 0, 20],
    ['an alternative varies', '^a+|b$', 0, 20],
    ['it looks ahead', '^(?=b)[a-z]+$', 0, 20],
    ['it looks behind', '^[a-z]+(?<!b)$', 0, 20],
    ['it refers to a group', '^(a|b)\\1$', 0, 20],
    ['it has a word boundary', '^a+\\b$', 0, 20],
    ['an anchor is within', '^a+(^b)$', 0, 20],
    ['an anchor is within', '^a$b$', 0, 20],
    ['it is none', '^(a', 0, 20],
    ['it is none', '^a)', 0, 20],
    ['it is none', '^a++$', 0, 20],
    ['it is none', '^a{3,2}$', 0, 20],
    ['two escapes may be one character', '^\\ud83d\\ude00$', 0, 20],
  ])('is not known where %s: %s', (_, pattern, least, most) => {
    expect(patternWithLengths(pattern, { least, most })).toBeUndefined()
  })

  test('has just the texts of these lengths', () => {
    const char = fc.constantFrom('a', '[ab]', '\\d', '[^a]', '.', '\\.', 'é')
    const times = fc.constantFrom('', '?', '*', '+', '{2}', '{1,}', '{0,3}', '{2,5}')
    const item = fc.tuple(fc.oneof(char, fc.constantFrom('(a|b)', '(?:ab|c)', '(a|)')), times)
    const pattern = fc.array(item, { minLength: 1, maxLength: 3 }).map((items) => items.flat().join(''))
    const bounds = fc.tuple(fc.nat(4), fc.constantFrom(0, 1, 3, 8, NO_MOST))
    let known = 0
    fc.assert(
      fc.property(pattern, bounds, fc.gen(), (written, [least, more], gen) => {
        const lengths = { least, most: least + more }
        const found = patternWithLengths(`^${written}$`, lengths)
        if (found === undefined) return
        known++
        const [before, after] = [new RegExp(`^${written}$`, 'u'), new RegExp(found, 'u')]
        const text = gen(() => fc.stringMatching(after))
        expect(text).toMatch(before)
        const length = [...text].length
        expect(length >= least && length <= lengths.most, `${text} of ${found}`).toBe(true)
        const other = gen(() => fc.stringMatching(before))
        const fits = [...other].length >= least && [...other].length <= lengths.most
        expect(after.test(other), `${other} of ${found}`).toBe(fits)
      }),
      { numRuns: 2000, seed: 5 },
    )
    expect(known).toBeGreaterThan(300)
  })
})
