import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { datasetFile, readQuestions } from '../../../cli/trace/dataset.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'apar-dataset-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

function write(name: string, ...lines: unknown[]): string {
  const path = join(folder, name)
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, lines.map((line) => `${JSON.stringify(line)}\n`).join(''))
  return path
}

const QUESTION = { question_id: 81, category: 'writing', turns: ['Write.', 'Again.'], reference: ['x'] }

describe('questions', () => {
  test.each(['mt_bench/question.jsonl', 'mt_bench.jsonl', 'fastchat/llm_judge/data/mt_bench/question.jsonl'])(
    'are found by name in %s',
    (place) => {
      const path = write(place, QUESTION)
      expect(datasetFile('mt_bench', folder)).toBe(path)
    },
  )

  test('of a name need a folder that has them; of a file, the file', () => {
    expect(() => datasetFile('mt_bench', undefined)).toThrow('--data')
    expect(() => datasetFile('vicuna_bench', folder)).toThrow(join(folder, 'vicuna_bench/question.jsonl'))
    expect(() => datasetFile(join(folder, 'none.jsonl'), folder)).toThrow('neither a file nor')
    const path = write('own.jsonl', QUESTION)
    expect(datasetFile(path, undefined)).toBe(path)
  })

  test('have all their turns, and the line as it is', async () => {
    const path = write('a.jsonl', QUESTION, { prompt: 'Hi' }, { id: 'x', prompt: 'Ho', category: 'c' })
    expect(await readQuestions(path)).toEqual([
      { id: '81', category: 'writing', before: [], turns: ['Write.', 'Again.'], line: QUESTION },
      { id: 'a.jsonl:2', category: 'all', before: [], turns: ['Hi'], line: { prompt: 'Hi' } },
      { id: 'x', category: 'c', before: [], turns: ['Ho'], line: { id: 'x', prompt: 'Ho', category: 'c' } },
    ])
  })

  test('of a chat ask its last message', async () => {
    const chat = (...contents: string[]) => ({
      id: 'c',
      messages: contents.map((content, at) => ({ role: at % 2 === 0 ? 'user' : 'assistant', content })),
    })
    const [question] = await readQuestions(write('a.jsonl', chat('a', 'b', 'c')))
    expect(question).toMatchObject({ turns: ['c'], before: chat('a', 'b').messages })
    await expect(readQuestions(write('b.jsonl', chat('a', 'b')))).rejects.toThrow(
      "b.jsonl:1: the last message must be the user's",
    )
  })

  test('are refused with file and line', async () => {
    await expect(readQuestions(write('a.jsonl', QUESTION, { turns: [] }))).rejects.toThrow(
      'a.jsonl:2: expected',
    )
    await expect(readQuestions(write('a.jsonl', QUESTION, QUESTION))).rejects.toThrow('81 is the id of two')
  })
})
