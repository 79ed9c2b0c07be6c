import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { extract } from '../../training/data/extract/extract.ts'
import { customProfile, PROFILES } from '../../training/data/extract/profile.ts'
import { documentOrder, type Part } from '../../training/data/extract/structure.ts'

/** Text made of the pieces that the rules look for, and answers that are nearly of some kind. */
const pieces = fc.constantFrom(
  ...[
    '1. ',
    '2. ',
    '3. ',
    '2) ',
    '- ',
    '* ',
    '• ',
    '   - ',
    '  1. ',
    '\t',
    '# ',
    '### ',
    '**',
    '__',
    '*',
    '`',
    '```',
    '---',
  ],
  ...[
    '\n',
    '\n',
    '\n\n',
    '\r\n',
    '\r\n\r\n',
    ' ',
    ': ',
    '：',
    ' - ',
    ' — ',
    '. ',
    '。',
    '? ',
    'e.g. ',
    'Mr. ',
    '1.5',
    '"',
    '(',
    ')',
    '[',
  ],
  ...[
    'Title',
    'word ',
    'a longer sentence that goes on. ',
    'The next one begins here',
    '标题',
    '🌿',
    '|',
    '> ',
    'Remember ',
    'http://x.y/',
  ],
)
const free = fc.array(pieces, { maxLength: 60 }).map((parts) => parts.join(''))
const title = fc.constantFrom(
  'Title:',
  '**Title:**',
  '**Title**:',
  '**Title** -',
  'Title –',
  '**Title**',
  'A sentence of its own.',
  'Mr. T.:',
)
const marker = fc.constantFrom('N. ', 'N) ', '- ', '* ', '## ', '  N. ', '**N.** ', '')
const list = fc
  .record({
    marker,
    items: fc.array(fc.tuple(title, fc.oneof(fc.lorem({ mode: 'sentences' }), free)), {
      minLength: 3,
      maxLength: 6,
    }),
    joint: fc.constantFrom('\n', '\n\n', '\r\n'),
  })
  .map(({ marker, items, joint }) =>
    items
      .map(([title, detail], at) => `${marker.replace('N', String(at + 1))}${title} ${detail}`)
      .join(joint),
  )
const answers = fc
  .array(fc.oneof(free, list, list), { minLength: 1, maxLength: 4 })
  .map((blocks) => blocks.join('\n\n'))

/** Calls `visit` for each fork, with all text before it in document order. */
function visitForks(
  parts: readonly Part[],
  visit: (before: string, detail: string) => void,
  start = '',
): string {
  let before = start
  for (const { text, detail } of parts) {
    before += text
    if (!detail) continue
    expect(text).not.toBe('')
    visit(before, documentOrder(detail))
    before = visitForks(detail, visit, before)
  }
  return before
}

const countOf = (text: string, part: string) => text.split(part).length - 1

/** Short texts of few words are often the same. */
const RULES = customProfile({ repeats: 'allow' })

describe('any answer', { timeout: 60_000 }, () => {
  it('is its parts in document order, byte for byte', () => {
    let structured = 0
    fc.assert(
      fc.property(answers, (answer) => {
        const result = extract(answer, RULES)
        if (!('structure' in result)) return
        structured += 1
        expect(documentOrder(result.structure.parts)).toBe(answer)
      }),
      { numRuns: 1500 },
    )
    expect(structured).toBeGreaterThan(150)
  })

  it('forks only in sane places', () => {
    fc.assert(
      fc.property(answers, (answer) => {
        const result = extract(answer, RULES)
        if (!('structure' in result)) return
        visitForks(result.structure.parts, (before, detail) => {
          const line = before.slice(before.lastIndexOf('\n') + 1)
          expect(before.trimEnd()).toBe(before)
          expect(detail.trimEnd()).toBe(detail)
          expect(detail.trim().length).toBeGreaterThanOrEqual(PROFILES.default.minDetail)
          // Not behind a number, an abbreviation or a list marker, and not inside of a word.
          expect(line).not.toMatch(/^\s*(?:\*\*)?(?:\d+[.)]|[-*+•])(?:\*\*)?$/)
          expect(line).not.toMatch(/\b(?:e\.g|Mr)\.$/)
          expect(/[\p{L}\p{N}]$/u.test(before) && /^[\p{L}\p{N}]/u.test(detail)).toBe(false)
          // Not inside of code.
          expect((before.match(/```+/g) ?? []).length % 2).toBe(0)
          expect(countOf(detail, '```')).toBe(0)
        })
      }),
      { numRuns: 1500 },
    )
  })

  it('is cut in pieces of bold text only where it is cut between them', () => {
    const bold = fc.array(fc.tuple(title, fc.lorem({ mode: 'sentences' })), { minLength: 3, maxLength: 6 })
    fc.assert(
      fc.property(bold, marker, (items, mark) => {
        const lines = items.map(
          ([title, detail], at) => `${mark.replace('N', String(at + 1))}${title} **${detail}** ${detail}`,
        )
        const result = extract(lines.join('\n\n'))
        if (!('structure' in result)) return
        visitForks(result.structure.parts, (before) => expect(countOf(before, '**') % 2).toBe(0))
      }),
    )
  })
})

describe('answers of a million characters', () => {
  const fill = (text: string) => text.repeat(Math.ceil(1_000_000 / text.length))
  const deep = Array.from({ length: 700 }, (_, depth) => `${' '.repeat(2 * depth)}- a: b\n`).join('')
  const shapes = [
    ...[
      '1',
      '1. ',
      '\n',
      ' ',
      '1.\n',
      ':',
      '1. a: bcdefghijk\n',
      '1. a\n\ntext\n\n',
      '1. a\n\nt\n\n2) b\n\nt\n\n- c\n\nt\n\n',
    ],
    ...[
      '- a: bcdefghijkl\n',
      '*',
      '**a',
      '`',
      '```\n',
      '#',
      '# a\nb\n',
      '# a\n## b\n### c\n',
      '1. (((((',
      '"',
      'A b. ',
      '.',
      'a.b.',
    ],
    ...[
      '- ',
      '- - - -x',
      '<',
      '<\n',
      '𝟏. ',
      '一、二：三',
      'x ',
      'a = b\n',
      '=',
      '{ \n',
      '\r\n',
      '\\',
      '<|a',
      '1. a: SplitMask]\n',
    ],
  ]

  // Time that grows with the square of the length would be hours.
  it.each([...shapes.map(fill), `1. a: ${fill('b ')}`, `${deep}${fill('\n')}${' '.repeat(1400)}x`])(
    'take linear time: %#',
    (answer) => {
      for (const profile of Object.values(PROFILES)) {
        const result = extract(answer, profile)
        if ('structure' in result && profile.keepWhiteSpace) {
          expect(documentOrder(result.structure.parts)).toBe(answer)
        }
      }
    },
    60_000,
  )
})
