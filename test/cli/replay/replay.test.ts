import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Replay } from '../../../cli/replay/replay.ts'
import { type TinyFolder, tinyCheckpoint } from '../../support/tiny-checkpoint.ts'
import { answerLines } from './garden.ts'

const folder = mkdtempSync(join(tmpdir(), 'apar-replay-'))
const file = join(folder, 'answers.jsonl')
let model: TinyFolder
beforeAll(() => {
  model = tinyCheckpoint()
  writeFileSync(file, answerLines)
})
afterAll(() => {
  model.remove()
  rmSync(folder, { recursive: true })
})

const open = (path: string) => Replay.open(path, { path: model.path, adapter: undefined })

test('a replay has the answers of a file, and the questions that have one', async () => {
  const replay = await open(file)
  expect(replay.name).toBe('poet-7b')
  expect(replay.answered([{ id: '4' }, { id: '2' }, { id: '1' }])).toEqual([{ id: '2' }, { id: '1' }])
  expect(replay.forced('1')).toHaveLength(4)
  expect(replay.forced('1', 1)).toBeUndefined()
  expect(replay.forced('4')).toBeUndefined()
})

test('other answers have another digest', async () => {
  const other = join(folder, 'other.jsonl')
  writeFileSync(other, answerLines.replace('dusk', 'dawn'))
  const [first, again, changed] = await Promise.all([open(file), open(file), open(other)])
  expect(again.digest).toBe(first.digest)
  expect(changed.digest).not.toBe(first.digest)
})

test('answers to other questions, and files without answers, are refused', async () => {
  const replay = await open(file)
  const refused = { code: 'invalid_option', message: expect.stringContaining('--replay') }
  expect(() => replay.answered([{ id: 'x' }])).toThrow(expect.objectContaining(refused))
  const empty = join(folder, 'empty.jsonl')
  writeFileSync(empty, '')
  await expect(open(empty)).rejects.toMatchObject(refused)
})
