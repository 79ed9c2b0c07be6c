import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { extract, keptAsUnstructured } from '../../training/data/extract/extract.ts'
import { extractList } from '../../training/data/extract/lists.ts'
import { extractParagraphs } from '../../training/data/extract/paragraphs.ts'
import { documentOrder, type Rule } from '../../training/data/extract/structure.ts'

const ask = (response: string, prompt = 'Question?') => ({ id: 'a', dialogs: [{ prompt, response }] })
const list = (...details: string[]) => details.map((d, i) => `${i + 1}. Title ${i + 1}:${d}`).join('\n')
const details = [' the first detail', ' the second detail', ' the third detail']

describe('ordered lists', () => {
  it('keeps titles in the main text and makes every detail a branch', () => {
    expect(extractList(`Three things:\n\n${list(...details)}\n\nThat is all.`)).toEqual({
      structure: {
        kind: 'list',
        parts: [
          { text: 'Three things:\n\n1. Title 1:', detail: ' the first detail' },
          { text: '\n2. Title 2:', detail: ' the second detail' },
          { text: '\n3. Title 3:', detail: ' the third detail' },
          { text: '\n\nThat is all.' },
        ],
      },
    })
  })

  it.each([
    ['a full-width colon', list(...details).replaceAll(':', '：')],
    ['a last item at the very end', list(...details)],
    ['blank lines between items', list(...details).replaceAll('\n', '\n\n')],
    [
      'bullets below an item that is not the last',
      list(`${details[0]}\n- more`, ' the second detail', ' the third detail'),
    ],
    ['a list that starts elsewhere', list(...details).replace(/\d/g, (n) => String(Number(n) + 3))],
  ])('accepts %s', (_, answer) => {
    const result = extractList(answer)
    if (!result || !('structure' in result)) throw new Error(JSON.stringify(result))
    expect(result.structure.parts.filter((part) => part.detail)).toHaveLength(3)
    expect(documentOrder(result.structure.parts)).toBe(answer)
  })

  it.each<[Rule, string]>([
    ['list_too_short', list(' the first detail', ' the second detail')],
    ['list_numbering', list(...details).replace('3. ', '7. ')],
    ['list_detail_too_short', list(' the first detail', ' short', ' the third detail')],
    ['list_nested', list(' the first detail\n   1. inner', ' the second detail', ' the third detail')],
    ['list_nested', `${list(...details)}\n   1. inner`],
    ['list_not_closed', `${list(...details)}\nThat is all.`],
  ])('refuses by %s', (rule, answer) => {
    expect(extractList(answer)).toEqual({ rule })
  })

  it('finds no list without items', () => {
    expect(extractList('1. No colon here\n2. Nor here')).toBeUndefined()
  })
})

describe('paragraphs', () => {
  const one = 'The first sentence is this one. The rest of it goes on for a while.'

  it('splits each after its first sentence', () => {
    expect(extractParagraphs(`${one}\n\n${one}\n\n${one}`)).toEqual({
      structure: {
        kind: 'paragraphs',
        parts: [
          { text: 'The first sentence is this one.', detail: ' The rest of it goes on for a while.' },
          { text: '\n\nThe first sentence is this one.', detail: ' The rest of it goes on for a while.' },
          { text: '\n\nThe first sentence is this one.', detail: ' The rest of it goes on for a while.' },
        ],
      },
    })
  })

  it('leaves a paragraph whole when a piece would be short', () => {
    const result = extractParagraphs(`Introduction.\n\n${one}\n\n${one}\n\n${one}\n\nShort. Too.`)
    if (!('structure' in result)) throw new Error(JSON.stringify(result))
    expect(result.structure.parts[0]?.text).toBe('Introduction.\n\nThe first sentence is this one.')
    expect(result.structure.parts.at(-1)).toEqual({ text: '\n\nShort. Too.' })
  })

  it.each<[Rule, string]>([
    ['paragraphs_too_few', `${one}\n\n${one}`],
    ['paragraphs_too_few_forks', `${one}\n\n${one}\n\nA single sentence without anything after it.`],
    ['paragraphs_abbreviation', `${one}\n\n${one}\n\n${one} Ask Dr. Who.`],
  ])('refuses by %s', (rule, answer) => {
    expect(extractParagraphs(answer)).toEqual({ rule })
  })
})

describe('the first answer as a whole', () => {
  it.each<[Rule, string, boolean]>([
    ['code_fence', '```js\n1\n```', true],
    ['maths', 'the sum $$x$$', true],
    ['angle_bracket', 'a < b', true],
    ['equals', 'a = b', true],
    ['rule_line', 'above\n---\nbelow', true],
    ['link', 'see http://example.com', true],
    ['paragraphs_too_few', 'One plain sentence.', true],
    ['cjk', '这是中文', false],
    ['marker', 'a [Fork] of my own', false],
    ['marker', 'an early </s>', false],
    ['empty_answer', ' \n', false],
    ['list_too_short', list(...details.slice(0, 2)), false],
  ])('%s is refused, and kept as unstructured or dropped', (rule, answer, kept) => {
    expect(extract(ask(answer))).toEqual({ rule })
    expect(keptAsUnstructured(rule)).toBe(kept)
  })

  it('refuses a prompt that contains a special token as text, and a conversation without turns', () => {
    expect(extract(ask('Fine.', 'Say [Child]'))).toEqual({ rule: 'marker' })
    expect(extract({ id: 'a', dialogs: [] })).toEqual({ rule: 'no_turn' })
  })

  it('prefers a list over paragraphs, and falls back to paragraphs', () => {
    const paragraph = 'A sentence that is long enough. And more text that follows it.'
    const answer = `${paragraph}\n\n${paragraph}\n\n${paragraph}`
    const both = extract(ask(`${answer}\n\n${list(...details)}`))
    expect('structure' in both && both.structure.kind).toBe('list')
    const fallback = extract(ask(`${answer}\n\n1. Only one: with its detail`))
    expect('structure' in fallback && fallback.structure.kind).toBe('paragraphs')
  })

  it('uses only the first turn', () => {
    const later = { prompt: 'More?', response: 'a = b' }
    const result = extract({ id: 'a', dialogs: [{ prompt: 'Q', response: list(...details) }, later] })
    expect('structure' in result).toBe(true)
  })

  it('keeps every character: document order equals the answer', () => {
    const words = fc.constantFrom(
      'word ',
      'a longer sentence. ',
      '\n',
      '\n\n',
      'title',
      ':',
      '1. ',
      '2. ',
      '3. ',
      '  ',
      '。',
    )
    const item = fc
      .tuple(fc.string({ minLength: 1 }), fc.lorem())
      .map(([t, d]) => `${t.replace(/[:：\n]/g, '') || 'x'}: ${d}`)
    const lists = fc
      .array(item, { minLength: 3, maxLength: 8 })
      .map((items) => items.map((t, i) => `${i + 1}. ${t}`).join('\n'))
    const free = fc.array(words, { maxLength: 60 }).map((parts) => parts.join(''))
    fc.assert(
      fc.property(fc.oneof(free, lists), (answer) => {
        const result = extract(ask(answer))
        if ('structure' in result) expect(documentOrder(result.structure.parts)).toBe(answer)
      }),
      { numRuns: 2000 },
    )
  })
})
