import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { AnswerForcer, branchesOf } from '../../../cli/replay/forced-answer.ts'
import { readCheckpoint } from '../../../gpu-node/checkpoint/checkpoint.ts'
import type { ForcedBranch } from '../../../shared/protocol/node.ts'
import { SPECIAL, type TinyFolder, tinyCheckpoint } from '../../support/tiny-checkpoint.ts'
import { LIST, NESTED, SENTENCE } from './garden.ts'

const FORK = SPECIAL['[Fork]']
const CHILD = SPECIAL['[Child]']

let folder: TinyFolder
let forcer: AnswerForcer
beforeAll(() => {
  folder = tinyCheckpoint()
  forcer = new AnswerForcer(readCheckpoint(folder.path))
})
afterAll(() => folder.remove())

/** The model's tokens are bytes. Forks are shown as <, the begin of a child as >. */
function shown({ tokens }: ForcedBranch): string {
  return tokens.map((id) => (id === FORK ? '<' : id === CHILD ? '>' : String.fromCharCode(id))).join('')
}

describe('a published answer', () => {
  test('forks where training data would: each detail is a child of its list', () => {
    const branches = forcer.force(LIST)
    expect(branches.map(({ parent }) => parent)).toEqual([-1, 0, 0, 0])
    expect(shown(branches[0] as ForcedBranch)).toBe(
      'Three things help:\n\n1. **Water:**<\n2. **Shade:**<\n3. **Mulch:**<\n\nThen rest.',
    )
    expect(shown(branches[2] as ForcedBranch)).toBe(
      '> hang a cloth over the seedlings at noon, and take it away at night.',
    )
  })

  test('may fork in a branch: children are in the order of the forks of their parent', () => {
    const branches = forcer.force(NESTED)
    expect(branches.map(({ parent }) => parent)).toEqual([-1, 0, 0, 0, 3, 3, 3])
    expect(shown(branches[3] as ForcedBranch)).toBe('>\n   - Straw:<\n   - Leaves:<\n   - Bark:<')
    for (const [index, branch] of branches.entries()) {
      const forks = branch.tokens.filter((id) => id === FORK).length
      expect(forks).toBe(branches.filter(({ parent }) => parent === index).length)
    }
  })

  test('that has nothing to fork is one branch, also where it spells out a control token', () => {
    for (const answer of [SENTENCE, `${SENTENCE} [Fork] is a token.`, ''])
      expect(forcer.force(answer).map(shown)).toEqual([answer])
  })

  test('ends before the token that ends an answer', () => {
    const all = forcer.force(NESTED).flatMap(({ tokens }) => tokens)
    expect(all).not.toContain(SPECIAL['</s>'])
    const segments = [{ parent: -1, ids: [1, 2, 9, 3], learned: [] }]
    const text = { child: { id: CHILD, content: '[Child]' }, eos: [9] }
    expect(branchesOf(segments, text)).toEqual([{ parent: -1, tokens: [1, 2] }])
  })
})

test('a model that cannot fork is refused', () => {
  const checkpoint = readCheckpoint(folder.path)
  const tokens = { ...checkpoint.tokens, fork: undefined }
  const refused = expect.objectContaining({ code: 'invalid_option' })
  expect(() => new AnswerForcer({ ...checkpoint, tokens })).toThrow(refused)
})
