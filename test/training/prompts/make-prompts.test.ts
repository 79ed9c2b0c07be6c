import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { makePrompts } from '../../../training/data/prompts/make-prompts.ts'
import { NearDuplicates } from '../../../training/data/prompts/near-duplicates.ts'
import { readTemplates, type Templates } from '../../../training/data/prompts/templates.ts'

const OWN = 'training/data/prompts/templates'

describe('likeness', () => {
  const like = (one: string, other: string) => {
    const texts = new NearDuplicates()
    texts.add(one)
    return texts.likeness(other)
  }

  test('is the share of common 3-grams of words', () => {
    expect(like('How do bees make honey?', 'how do BEES make honey')).toBe(1)
    expect(like('How do bees make honey?', 'Who painted the ceiling?')).toBe(0)
    // ^ how do | how do bees | do bees make | bees make honey | make honey $, and the same with wax: 3 of 7.
    expect(like('How do bees make honey?', 'How do bees make wax?')).toBeCloseTo(3 / 7, 12)
  })

  test('of short texts and of formulas', () => {
    expect(like('Hello!', 'hello')).toBe(1)
    expect(like('', '...')).toBe(1)
    expect(like('What is 2 + 3?', 'What is 2 * 3?')).toBeLessThan(0.5)
  })

  test('is that of the text that is most like it', () => {
    const texts = new NearDuplicates()
    for (const text of ['one two three four', 'one two three five', 'six seven eight']) texts.add(text)
    expect(texts.likeness('one two three five')).toBe(1)
  })
})

describe('the templates of the project', () => {
  const templates = readTemplates(OWN)
  const { prompts } = makePrompts(templates, { count: 6600, seed: 1 })

  test('give several thousand prompts, three of five for lists', () => {
    expect(prompts).toHaveLength(6600)
    expect(prompts.filter(({ shape }) => shape === 'list')).toHaveLength(3960)
    expect(new Set(prompts.map(({ id }) => id)).size).toBe(6600)
    expect(new Set(prompts.map(({ group }) => group)).size).toBe(templates.groups.length)
  })

  test('leave no slot open, and make sentences', () => {
    for (const { prompt } of prompts) expect(prompt).not.toMatch(/\{\w*\}/)
    expect(prompts.filter(({ prompt }) => /^[a-z]/.test(prompt))).toEqual([])
  })

  test('every slot is used', () => {
    const used = templates.groups.flatMap(({ templates: each }) =>
      each.flatMap((text) => text.match(/\w+(?=\})/g)),
    )
    expect([...templates.slots.keys()].filter((slot) => !used.includes(slot))).toEqual([])
  })

  test('give no near-duplicates', () => {
    const texts = new NearDuplicates()
    const like: string[] = []
    for (const { prompt } of prompts.slice(0, 2000)) {
      if (texts.likeness(prompt) >= 0.7) like.push(prompt)
      texts.add(prompt)
    }
    expect(like).toEqual([])
  })

  test('a seed gives the same prompts again, another one others', () => {
    const make = (seed: number) => makePrompts(templates, { count: 300, seed }).prompts
    expect(make(7)).toEqual(make(7))
    const other = new Set(make(8).map(({ id }) => id))
    expect(make(7).filter(({ id }) => other.has(id)).length).toBeLessThan(30)
  })
})

describe('made prompts', () => {
  const templates: Templates = {
    slots: new Map([
      ['count', ['3', '4', '5']],
      ['thing', ['old maps', 'wooden toys', 'paper lamps']],
    ]),
    groups: [
      { name: 'lists', shape: 'list', weight: 1, templates: ['Name {count} uses of {thing}.'] },
      { name: 'plain', shape: 'other', weight: 1, templates: ['Who invented {thing}?'] },
    ],
  }

  test('differ in more than a number', () => {
    expect(makePrompts(templates, { count: 6, seed: 1 }).prompts).toHaveLength(6)
    expect(() => makePrompts(templates, { count: 7, seed: 1 })).toThrow(
      'the templates give 6 prompts that differ enough, not 7',
    )
  })

  test('are not like those to avoid', () => {
    const { prompts, avoided } = makePrompts(templates, {
      count: 4,
      seed: 1,
      avoid: ['Name nine uses of old maps!', 'Who invented paper lamps and fans?'],
    })
    expect(prompts.map(({ prompt }) => prompt.replace(/\d/, '#')).sort()).toEqual([
      'Name # uses of paper lamps.',
      'Name # uses of wooden toys.',
      'Who invented old maps?',
      'Who invented wooden toys?',
    ])
    expect(avoided).toBeGreaterThan(0)
  })
})

describe('template files', () => {
  let folder: string
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'apar-templates-'))
  })
  afterEach(() => rmSync(folder, { recursive: true }))

  const group = { name: 'a', shape: 'list', weight: 1, templates: ['Tell me about {thing}.'] }
  const slots = { thing: ['x'] }

  test('may share slots', () => {
    writeFileSync(join(folder, 'one.json'), JSON.stringify({ slots: {}, groups: [group] }))
    writeFileSync(join(folder, 'two.json'), JSON.stringify({ slots, groups: [{ ...group, name: 'b' }] }))
    expect(readTemplates(folder).groups.map(({ name }) => name)).toEqual(['a', 'b'])
  })

  test.each<[string, string, RegExp]>([
    ['no JSON', '{', /one\.json: .*JSON/],
    [
      'a slot that is not there',
      JSON.stringify({ slots: {}, groups: [group] }),
      /group a: there is no slot thing/,
    ],
    [
      'a slot twice',
      JSON.stringify({ slots: { other: ['y'] }, groups: [group] }),
      /slots\.other: another file/,
    ],
    ['a group twice', JSON.stringify({ slots, groups: [group, group] }), /groups: a exists already/],
    ['an unknown shape', JSON.stringify({ slots, groups: [{ ...group, shape: 'odd' }] }), /groups\.0\.shape/],
    ['an empty slot', JSON.stringify({ slots: { thing: [] }, groups: [group] }), /slots\.thing/],
  ])('with %s are refused', (_, text, reason) => {
    writeFileSync(join(folder, 'one.json'), text)
    if (/other/.test(text)) {
      const more = { slots: { other: ['z'], thing: ['x'] }, groups: [{ ...group, name: 'b' }] }
      writeFileSync(join(folder, 'another.json'), JSON.stringify(more))
    }
    expect(() => readTemplates(folder)).toThrow(reason)
  })

  test('are needed', () => {
    expect(() => readTemplates(folder)).toThrow(/no \*\.json with groups/)
  })
})
