import { expect, test } from 'vitest'
import { traceSummary } from '../../cli/chat/trace-summary.ts'
import { forkingSteps } from './trace/sample-trace.ts'

test('the trace of an answer in one line', () => {
  expect(traceSummary(forkingSteps())).toBe(
    '5 steps, 1.40 tokens a step, at most 2 live branches and 2 KV blocks, 5 ms in the engine',
  )
  expect(traceSummary([])).toContain('no trace')
})
