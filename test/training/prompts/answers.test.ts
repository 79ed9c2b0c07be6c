import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { AnswersFile, type Sampling } from '../../../training/data/prompts/answers-file.ts'
import { readPrompts } from '../../../training/data/prompts/read-prompts.ts'
import { Repetition } from '../../../training/data/prompts/repetition.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'apar-answers-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

async function read(text: string | Buffer, name = 'questions.jsonl') {
  const file = join(folder, name)
  writeFileSync(file, text)
  const prompts = []
  for await (const prompt of readPrompts(file)) prompts.push(prompt)
  return prompts
}

describe('prompts', () => {
  const user = (content: string) => ({ role: 'user', content })

  test('are lines of several shapes', async () => {
    const chat = [
      { role: 'system', content: 'Be brief.' },
      user('Hi'),
      { role: 'assistant', content: 'Yes?' },
      user('Bye'),
    ]
    const lines = [
      { id: 'a/1', prompt: 'One?', shape: 'list' },
      { prompt: 'Two?' },
      { question_id: 81, turns: ['Three?', 'And then?'], category: 'writing' },
      { id: 7, messages: chat },
    ]
    const text = lines.map((line) => `${JSON.stringify(line)}\n`).join('\n')
    const prompts = [
      { id: 'a/1', messages: [user('One?')] },
      { id: 'questions.jsonl:3', messages: [user('Two?')] },
      { id: '81', messages: [user('Three?')] },
      { id: '7', messages: chat },
    ]
    expect(await read(text)).toEqual(prompts)
    prompts.splice(1, 1, { id: 'questions.jsonl.gz:3', messages: [user('Two?')] })
    expect(await read(gzipSync(text), 'questions.jsonl.gz')).toEqual(prompts)
  })

  test.each([
    ['something else', '{"text": "x"}'],
    ['an empty prompt', '{"prompt": ""}'],
    ['no turn', '{"turns": []}'],
    ['a chat without a question', '{"messages": [{"role": "assistant", "content": "x"}]}'],
    ['no JSON', '{"prompt"'],
  ])('with %s are refused, with file and line', async (_, line) => {
    await expect(read(`{"prompt": "x"}\n${line}\n`)).rejects.toThrow(/questions\.jsonl:2: /)
  })
})

describe('a file of answers', () => {
  const sampling: Sampling = { model: 'm', dtype: 'int8', temperature: 0, top_p: 1, max_tokens: 9, seed: 1 }
  const answer = (id: string) => ({
    ...{ id, prompt: 'p', response: `to ${id}`, finish_reason: 'stop' as const, tokens: 2, sampling },
  })
  const path = () => join(folder, 'answers.jsonl')

  async function write(...ids: string[]): Promise<string[]> {
    const file = await AnswersFile.open(path(), sampling)
    await Promise.all(ids.map((id) => file.add(answer(id))))
    await file.close()
    return [...file.present]
  }

  test('goes on where it ended', async () => {
    expect(await write('a', 'b')).toEqual([])
    expect(await write('c')).toEqual(['a', 'b'])
    const lines = readFileSync(path(), 'utf8').trim().split('\n')
    expect(lines.map((line) => JSON.parse(line))).toEqual(['a', 'b', 'c'].map(answer))
  })

  test.each([1, 40, 70_000])(
    'loses a last line that was not written whole, of %i characters',
    async (length) => {
      await write('a', 'b')
      const whole = readFileSync(path(), 'utf8')
      appendFileSync(path(), `{"id": "${'c'.repeat(length)}`.slice(0, length))
      expect(await write()).toEqual(['a', 'b'])
      expect(readFileSync(path(), 'utf8')).toBe(whole)
    },
  )

  test('a file that is only a torn line becomes empty', async () => {
    writeFileSync(path(), '{"id": "a"')
    expect(await write()).toEqual([])
    expect(readFileSync(path(), 'utf8')).toBe('')
  })

  test('has answers of one kind', async () => {
    await write('a')
    await expect(AnswersFile.open(path(), { ...sampling, temperature: 0.7 })).rejects.toThrow(
      /answers\.jsonl:1: answers drawn otherwise .* choose another file/,
    )
    await expect(AnswersFile.open(path(), { ...sampling, system: 'Be brief.' })).rejects.toThrow(
      /drawn otherwise/,
    )
  })

  test('nothing of another file is changed', async () => {
    writeFileSync(path(), '{"question": 1}\n')
    await expect(AnswersFile.open(path(), sampling)).rejects.toThrow(/answers\.jsonl:1: no answer/)
    expect(readFileSync(path(), 'utf8')).toBe('{"question": 1}\n')
  })
})

describe('repetition', () => {
  const words = Array.from({ length: 200 }, (_, index) => `word${index * 7919}`).join(' ')

  test('is no list of different things', () => {
    expect(new Repetition().look(words)).toBeUndefined()
    expect(new Repetition().look('x'.repeat(100))).toBeUndefined()
  })

  test('is found where the same words come for the fifth time', () => {
    const sentence = 'They are found in the North Pacific and in the North Atlantic. '
    const text = words.slice(0, 500) + sentence.repeat(20)
    const cut = new Repetition().look(text) ?? 0
    const times = text.slice(0, cut).split('found in').length - 1
    expect([5, 6]).toContain(times)
  })

  test('is found at the same place, however the text arrives', () => {
    const text =
      words.slice(0, 300) + 'Round and round and round it goes, and where it stops nobody knows.\n'.repeat(9)
    const cut = new Repetition().look(text)
    expect(cut).toBeDefined()
    for (const step of [1, 7, 100]) {
      const repetition = new Repetition()
      let found: number | undefined
      for (let end = 0; found === undefined; end += step) found = repetition.look(text.slice(0, end))
      expect(found).toBe(cut)
    }
  })
})
