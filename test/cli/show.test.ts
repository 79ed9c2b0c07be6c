import { expect, test } from 'vitest'
import { summary } from '../../cli/chat/show.ts'
import type { DoneEvent, Usage } from '../../shared/protocol/events.ts'

function answer(branches: number, more: Partial<DoneEvent> = {}, apar?: Usage['apar']) {
  const usage = {
    ...{ prompt_tokens: 5, cached_prompt_tokens: 0, completion_tokens: 90, total_tokens: 95, apar },
    branches: Array.from({ length: branches }, (_, branch) => ({ branch, completion_tokens: 1 })),
  }
  return { done: { type: 'done', seq: 9, reason: 'stop', usage, ...more } satisfies DoneEvent }
}

test.each([
  ['a serial answer', answer(1), '90 tokens, no fork, 1234 ms'],
  ['a fork', answer(2), '90 tokens, 1 fork, 1234 ms'],
  ['forks', answer(4, { reason: 'length' }), '90 tokens, 3 forks, 1234 ms, ended by length'],
  [
    'drafts',
    answer(4, {}, { speculation: { drafted: 80, accepted: 61 } }),
    '90 tokens, 3 forks, drafted 80, accepted 61 (76 %), 1234 ms',
  ],
  ['no end', { done: undefined }, ''],
])('sums up an answer with %s', (_, shown, line) => {
  expect(summary(shown, 1233.6)).toBe(line)
})
