import { describe, expect, test } from 'vitest'
import { type ReferenceNode, toReference } from '../../../cli/trace/export/reference.ts'
import { traceOf } from './sample-trace.ts'

/** As ParagraphNode.get_text of the reference reads a tree: own tokens, the detail, then the next paragraph. */
function idsInOrder(node: ReferenceNode, ids: readonly number[][]): number[] {
  expect(node.detail === null).toBe(node.next === null)
  const own = ids[node.gid]?.slice(node.start, node.termination ?? undefined) ?? []
  const detail = node.detail ? idsInOrder(node.detail, ids) : []
  return [...own, ...detail, ...(node.next ? idsInOrder(node.next, ids) : [])]
}

describe('a trace in the form of the reference', () => {
  const exported = toReference(traceOf('81', 'parallel'))
  const [turn] = exported.traces
  if (!turn) throw new Error('no turn')

  test('has the fields of the question and of get_trace, with their types', () => {
    const { traces, ...question } = JSON.parse(JSON.stringify(exported))
    expect(question).toEqual({ question_id: 81, category: 'writing', turns: ['What is a?'], model: 'm' })
    expect(traces).toHaveLength(1)
    const fields = ['dynamic_bs', 'elapse', 'g_to_i', 'global_root', 'responses', 'ret_input_ids']
    expect(Object.keys(traces[0]).sort()).toEqual(fields)
    for (const field of fields) expect(traces[0][field]).toHaveLength(4)
    expect(traces[0].elapse).toEqual([0.001, 0.002, 0.003, 0.004])
    for (const size of traces[0].dynamic_bs) expect(Number.isInteger(size)).toBe(true)
  })

  test('has the text of each step in document order, and the paths of all branches, prompts included', () => {
    expect(turn.responses).toEqual([['1. a:'], ['1. a:'], ['1. a: one\nend'], ['1. a: one two\nend']])
    expect(turn.ret_input_ids).toEqual([
      [[1, 2, 3, 10]],
      [
        [1, 2, 3, 10, 90],
        [1, 2, 3, 10, 90, 91],
      ],
      [
        [1, 2, 3, 10, 90, 11],
        [1, 2, 3, 10, 90, 91, 12],
      ],
      [
        [1, 2, 3, 10, 90, 11],
        [1, 2, 3, 10, 90, 91, 12, 13, 14],
      ],
    ])
  })

  test('has the tree of paragraphs, which gives the tokens without [Fork] and [Child] in order', () => {
    const leaf = { termination: null, next: null, detail: null }
    expect(turn.global_root[0]).toEqual([{ ...leaf, start: 3, gid: 0 }])
    const forked = {
      ...{ start: 3, gid: 0, termination: 4 },
      ...{ next: { ...leaf, start: 5, gid: 0 }, detail: { ...leaf, start: 6, gid: 1 } },
    }
    expect(turn.global_root.slice(1)).toEqual([[forked], [forked], [forked]])
    const read = turn.global_root.map(([root], step) => idsInOrder(root, turn.ret_input_ids[step] ?? []))
    expect(read).toEqual([[10], [10], [10, 12, 11], [10, 12, 13, 14, 11]])
  })

  test('has the branches of each step in the batch', () => {
    expect(turn.g_to_i).toEqual([{ 0: 0 }, { 0: 0, 1: 1 }, { 0: 0, 1: 1 }, { 0: 0, 1: 1 }])
    expect(turn.dynamic_bs).toEqual([1, 2, 2, 2])
  })

  test('of a serial answer is one paragraph', () => {
    const [serial] = toReference(traceOf('81', 'serial')).traces
    expect(serial?.ret_input_ids.at(-1)).toEqual([[1, 2, 3, 10, 12, 13, 14, 11]])
    expect(serial?.global_root.at(-1)).toEqual([
      { start: 3, gid: 0, termination: null, next: null, detail: null },
    ])
  })

  test('needs the prompt', () => {
    const trace = traceOf('81', 'parallel')
    const turns = trace.turns.map((each) => ({ ...each, steps: each.steps.slice(1) }))
    expect(() => toReference({ ...trace, turns })).toThrow('no prompt')
  })
})
