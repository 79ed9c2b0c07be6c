// What an edge needs for the ids of an answer's tokens: those of the prompt in `accepted`, the others in the rows.
import { afterAll, beforeAll, expect, test } from 'vitest'
import { EVENT, FINISH } from '../../gpu-node/engine/engine-events.ts'
import type { NodeBatch } from '../../shared/protocol/node.ts'
import { scriptedRunner } from '../support/scripted-node.ts'
import { type TinyFolder, tinyCheckpoint } from '../support/tiny-checkpoint.ts'

let folder: TinyFolder
beforeAll(() => {
  folder = tinyCheckpoint()
})
afterAll(() => folder.remove())

const REQUEST = { model: 'tiny', messages: [{ role: 'user' as const, content: 'hi' }] }

test('`accepted` has the ids of the prompt for a request that wants them, once though the stream moves', async () => {
  const first = await scriptedRunner(folder)
  const batches: NodeBatch[] = []
  const request = { ...REQUEST, return_prompt_token_ids: true }
  await first.runner.start('s', request, (batch) => batches.push(batch))
  const prompt = [...(first.engine.submitted[0]?.prompt ?? [])]
  expect(prompt.length).toBeGreaterThan(0)
  expect(batches[0]?.events).toMatchObject([{ prompt_tokens: prompt.length, prompt_token_ids: prompt }])

  const second = await scriptedRunner(folder)
  const more: NodeBatch[] = []
  await second.runner.start('s', request, (batch) => more.push(batch), { log: batches })
  second.engine.tokens(1, 0, Buffer.from('a')).end(1, 0).finish(1).deliver()
  expect(JSON.stringify(more)).not.toContain('prompt_token_ids')

  const plain: NodeBatch[] = []
  await first.runner.start('t', REQUEST, (batch) => plain.push(batch))
  expect(plain[0]?.events[0]).not.toHaveProperty('prompt_token_ids')
})

test('a prompt of ids comes back as it is', async () => {
  const { runner } = await scriptedRunner(folder)
  const batches: NodeBatch[] = []
  const request = { model: 'tiny', messages: [], prompt_token_ids: [5, 6, 7], return_prompt_token_ids: true }
  await runner.start('s', request, (batch) => batches.push(batch))
  expect(batches[0]?.events).toMatchObject([{ prompt_token_ids: [5, 6, 7] }])
})

test('rows have the token that ended a branch; `branch_end` has it if the request has named it', async () => {
  const { runner, engine } = await scriptedRunner(folder)
  const batches: NodeBatch[] = []
  await runner.start('s', { ...REQUEST, stop_token_ids: [98] }, (batch) => batches.push(batch))
  await runner.start('t', REQUEST, (batch) => batches.push(batch))
  for (const id of [1, 2]) {
    engine.tokens(id, 0, Buffer.from('a')).end(id, 0, FINISH.STOP, 98).finish(id).deliver()
  }
  const ends = batches.flatMap(({ events }) => events).filter(({ type }) => type === 'branch_end')
  expect(ends).toMatchObject([{ stop_token: 98 }, { reason: 'stop' }])
  expect(ends[1]).not.toHaveProperty('stop_token')
  const rows = [EVENT.TOKEN, 0, 97, 0, EVENT.BRANCH_END, 0, FINISH.STOP, 99]
  expect(batches.map(({ rows }) => rows).filter(({ length }) => length > 0)).toEqual([rows, rows])
})
