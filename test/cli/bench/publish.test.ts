import { expect, test, vi } from 'vitest'
import { publish } from '../../../cli/bench/serving/report/publish.ts'

test('figures are printed before files that cannot be written', async () => {
  const log = vi.spyOn(console, 'log').mockImplementation(() => {})
  const head = { title: 'a run of hours', facts: [] }
  const report = { cells: [], timeLines: [] }
  await expect(publish(head, {}, report, { plots: 'plots' })).rejects.toThrow('--plots')
  await expect(publish(head, {}, report, { markdown: 'no-folder/x.md' })).rejects.toThrow('ENOENT')
  expect(log.mock.calls.flat()).toEqual([1, 2].map(() => expect.stringContaining('a run of hours')))
  log.mockRestore()
})
