import { describe, expect, it } from 'vitest'
import { extract } from '../../training/data/extract/extract.ts'
import type { Part } from '../../training/data/extract/structure.ts'
import { splitOf } from '../../training/data/pipeline/processor.ts'
import { flatRow, rowCharacters, structuredRows, unstructuredRow } from '../../training/data/rows.ts'

const conversation = { id: 'c7', dialogs: [{ prompt: 'How?', response: 'So.' }] }
const structureOf = (...parts: Part[]) => ({ kind: 'list' as const, parts })
const structure = structureOf(
  { text: 'Three:\n1. A:', detail: [{ text: ' one' }] },
  { text: '\n2. B:', detail: [{ text: ' two' }] },
  { text: '\n\nDone.' },
)
const nested = structureOf(
  {
    text: 'A',
    detail: [{ text: 'a', detail: [{ text: 'x' }] }, { text: 'b', detail: [{ text: 'y' }] }, { text: 'c' }],
  },
  { text: 'B', detail: [{ text: 'z' }] },
)

describe('rows', () => {
  it('has a main row, and a row per branch up to its own [Fork]', () => {
    expect([...structuredRows(conversation, structure)]).toEqual([
      { index: 'c7_main', input: 'How?', target: 'Three:\n1. A:[Fork]\n2. B:[Fork]\n\nDone.' },
      { index: 'c7_0', input: 'How?', target: 'Three:\n1. A:[Fork][Child] one' },
      { index: 'c7_1', input: 'How?', target: 'Three:\n1. A:[Fork]\n2. B:[Fork][Child] two' },
    ])
  })

  it('has a row per nested branch, along its path and in document order', () => {
    expect([...structuredRows(conversation, nested)].map(({ index, target }) => [index, target])).toEqual([
      ['c7_main', 'A[Fork]B[Fork]'],
      ['c7_0', 'A[Fork][Child]a[Fork]b[Fork]c'],
      ['c7_1', 'A[Fork][Child]a[Fork][Child]x'],
      ['c7_2', 'A[Fork][Child]a[Fork]b[Fork][Child]y'],
      ['c7_3', 'A[Fork]B[Fork][Child]z'],
    ])
  })

  it('may have other marks', () => {
    const [, branch] = structuredRows(conversation, structure, { fork: '<f>', child: '<c>' })
    expect(branch?.target).toBe('Three:\n1. A:<f><c> one')
  })

  it('has a row with the answer in serial form', () => {
    expect(flatRow(conversation, structure).target).toBe('Three:\n1. A: one\n2. B: two\n\nDone.')
    expect(flatRow(conversation, nested).target).toBe('AaxbycBz')
  })

  it('keeps all turns of an unstructured conversation', () => {
    const turns = [...conversation.dialogs, { prompt: 'And?', response: 'That.' }]
    expect(unstructuredRow({ id: 'u', dialogs: turns })).toEqual({
      id: 'u',
      conversations: [
        { from: 'human', value: 'How?' },
        { from: 'gpt', value: 'So.' },
        { from: 'human', value: 'And?' },
        { from: 'gpt', value: 'That.' },
      ],
    })
  })
})

describe('the size of rows', () => {
  const size = (rows: Iterable<{ target: string }>) =>
    [...rows].reduce((sum, { target }) => sum + target.length, 0)

  it.each([structure, nested, structureOf({ text: 'no fork' })])('is known before they are built', (of) => {
    expect(rowCharacters(of)).toBe(size(structuredRows(conversation, of)))
    const markers = { fork: '<f>', child: '' }
    expect(rowCharacters(of, markers)).toBe(size(structuredRows(conversation, of, markers)))
  })

  it('of a list of 20,000 items is counted, and the first rows are had, without the others', () => {
    const items = Array.from(
      { length: 20_000 },
      (_, n) => `${n + 1}. Step ${n + 1}: carry stone ${n + 1} up the hill`,
    )
    const result = extract(items.join('\n'))
    if (!('structure' in result)) throw new Error(result.rule)
    expect(rowCharacters(result.structure)).toBeGreaterThan(4e9)
    const rows = structuredRows(conversation, result.structure)
    rows.next()
    expect(rows.next().value?.target).toBe('1. Step 1:[Fork][Child] carry stone 1 up the hill')
  })
})

describe('split', () => {
  it('depends only on group and seed, and holds out about the requested share', () => {
    const groups = Array.from({ length: 5000 }, (_, i) => `page/${i}`)
    const held = groups.filter((group) => splitOf(group, 1) === 'test')
    expect(held.length / groups.length).toBeGreaterThan(0.1)
    expect(held.length / groups.length).toBeLessThan(0.14)
    expect(groups.filter((group) => splitOf(group, 1) === 'test')).toEqual(held)
    expect(groups.filter((group) => splitOf(group, 2) === 'test')).not.toEqual(held)
    expect(splitOf('page/1', 1, 0)).toBe('train')
    expect(splitOf('page/1', 1, 1)).toBe('test')
  })
})
