import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { type Prompt, readPrompts } from '../../../training/data/prompts/read-prompts.ts'

const folder = mkdtempSync(join(tmpdir(), 'apar-prompts-'))
afterAll(() => rmSync(folder, { recursive: true }))

async function read(name: string, text: string): Promise<Prompt[]> {
  const file = join(folder, name)
  writeFileSync(file, text)
  const prompts: Prompt[] = []
  for await (const prompt of readPrompts(file)) prompts.push(prompt)
  return prompts
}

const asked = (id: string, content: string) => ({ id, messages: [{ role: 'user', content }] })

test('the test set of a build gives its first questions', async () => {
  const dialog = [
    { prompt: 'List fruit.', response: '1. Apple', forkable: true, streams: ['red'] },
    { prompt: 'More?', response: 'No.' },
  ]
  expect(await read('apar_testset.json', JSON.stringify([{ id: 'a_0', dialog }]))).toEqual([
    asked('a_0', 'List fruit.'),
  ])
})

test('ShareGPT gives the first thing a person said', async () => {
  const conversations = [
    { from: 'gpt', value: 'How can I help?' },
    { from: 'human', value: 'Name three rivers.' },
    { from: 'gpt', value: 'Nile' },
  ]
  const nobody = { id: 'y', conversations: [{ from: 'gpt', value: 'Hello' }] }
  const text = JSON.stringify([{ id: 'x_1', conversations }, nobody, { id: 'z', conversations: [] }])
  expect(await read('sharegpt.json', text)).toEqual([asked('x_1', 'Name three rivers.')])
})

test('questions of FastChat have turns, or one text', async () => {
  const lines = [
    { question_id: 81, category: 'writing', turns: ['First', 'Second'] },
    { question_id: 1, text: 'Only', category: 'generic' },
  ]
  expect(await read('question.jsonl', lines.map((line) => JSON.stringify(line)).join('\n'))).toEqual([
    asked('81', 'First'),
    asked('1', 'Only'),
  ])
})

test('a record of another shape is refused with its line', async () => {
  await expect(read('other.jsonl', '{"prompt": "a"}\n{"question": "b"}\n')).rejects.toThrow('other.jsonl:2')
})
