import { describe, expect, it } from 'vitest'
import { splitOf } from '../../training/data/examples.ts'
import { flatRow, structuredRows, unstructuredRow } from '../../training/data/rows.ts'

const conversation = { id: 'c7', dialogs: [{ prompt: 'How?', response: 'So.' }] }
const structure = {
  kind: 'list' as const,
  parts: [
    { text: 'Three:\n1. A:', detail: ' one' },
    { text: '\n2. B:', detail: ' two' },
    { text: '\n\nDone.' },
  ],
}

describe('rows', () => {
  it('has a main row, and a row per branch up to its own [Fork]', () => {
    expect(structuredRows(conversation, structure)).toEqual([
      { index: 'c7_main', input: 'How?', target: 'Three:\n1. A:[Fork]\n2. B:[Fork]\n\nDone.' },
      { index: 'c7_0', input: 'How?', target: 'Three:\n1. A:[Fork][Child] one' },
      { index: 'c7_1', input: 'How?', target: 'Three:\n1. A:[Fork]\n2. B:[Fork][Child] two' },
    ])
  })

  it('has a row with the answer in serial form', () => {
    expect(flatRow(conversation, structure).target).toBe('Three:\n1. A: one\n2. B: two\n\nDone.')
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
