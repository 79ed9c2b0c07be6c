import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { requires } from '../../support/requires.ts'

const APAR = 'dist/apar.js'
const BUILT = () => existsSync(APAR) && existsSync('native/build/release/apar.node')

describe.skipIf(!requires('the built engine and dist/apar.js', BUILT))('apar data answer', () => {
  let folder: string
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'apar-answer-'))
    const names = ['tar', 'git push', 'ls', 'grep', 'tar']
    const lines = names.map((name, index) => ({ id: `q${index}`, prompt: `What is ${name}?` }))
    write(...lines, { id: 'long', prompt: 'What? '.repeat(50) }, { id: 'chat', messages: chat })
  })
  afterEach(() => rmSync(folder, { recursive: true }))

  const chat = ['How do I use cd?', 'With cd FOLDER.', 'And rm?'].map((content, index) => ({
    role: index % 2 === 0 ? 'user' : 'assistant',
    content,
  }))
  const write = (...lines: object[]) =>
    writeFileSync(join(folder, 'prompts.jsonl'), lines.map((line) => `${JSON.stringify(line)}\n`).join(''))

  async function apar(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
    const command = [APAR, 'data', 'answer', '--model', 'demo', '--threads', '1', '--concurrency', '4']
    const files = ['--prompts', join(folder, 'prompts.jsonl'), '--out', join(folder, 'answers.jsonl')]
    try {
      return { code: 0, ...(await promisify(execFile)(process.execPath, [...command, ...files, ...args])) }
    } catch (error) {
      return error as { code: number; stdout: string; stderr: string }
    }
  }

  interface Line {
    id: string
    prompt?: string
    response?: string
    messages?: { role: string; content: string }[]
    finish_reason: string
    tokens: number
  }
  const answers = (): Line[] =>
    readFileSync(join(folder, 'answers.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
      .sort((a: Line, b: Line) => (a.id < b.id ? -1 : 1))

  test('answers each prompt once, serially', { timeout: 120_000 }, async () => {
    const { code, stderr } = await apar('--max-prompt-characters', '200')
    expect({ code, stderr }).toEqual({
      code: 0,
      stderr: 'apar: 5 answers to make, 0 are there; left out: 1 repeated prompts, 1 long ones\n',
    })
    expect(answers().map(({ id }) => id)).toEqual(['chat', 'q0', 'q1', 'q2', 'q3'])
    const [talk, tar] = answers()
    expect(talk?.messages).toEqual([...chat, { role: 'assistant', content: expect.any(String) }])
    expect(tar).toMatchObject({
      prompt: 'What is tar?',
      finish_reason: 'stop',
      response: expect.stringMatching(/^tar /),
    })
    expect(tar?.response).not.toMatch(/\[Fork\]/)
    expect(tar?.tokens).toBeGreaterThan(5)
  })

  test('an answer that is cut says so', { timeout: 120_000 }, async () => {
    await apar('--max-prompt-characters', '200', '--max-tokens', '4', '--system', 'Be brief.')
    for (const { finish_reason, tokens, messages } of answers()) {
      expect({ finish_reason, tokens }).toEqual({ finish_reason: 'length', tokens: 4 })
      expect(messages?.[0]).toEqual({ role: 'system', content: 'Be brief.' })
    }
  })

  test('goes on after any end to what it would have been', { timeout: 120_000 }, async () => {
    const sampled = ['--temperature', '0.8', '--top-p', '0.9', '--samples', '2', '--max-tokens', '40']
    await apar(...sampled)
    const whole = answers()
    expect(whole).toHaveLength(12)
    expect(new Set(whole.map(({ id }) => id)).size).toBe(12)
    const path = join(folder, 'answers.jsonl')
    truncateSync(path, Math.floor(readFileSync(path).length * 0.6))
    const { stderr } = await apar(...sampled)
    expect(stderr).toMatch(/12 answers to make, [1-9]\d* are there/)
    expect(answers()).toEqual(whole)
  })

  test.each<[string, RegExp, ...string[]]>([
    ['several greedy answers', /--samples: greedy answers are all the same/, '--samples', '2'],
    ['an unknown model', /there is no file or folder nothing here/, '--model', 'nothing'],
  ])('%s are refused with a reason', async (_, reason, ...args) => {
    const { code, stderr } = await apar(...args)
    expect(code).toBe(1)
    expect(stderr).toMatch(reason)
  })

  test('two prompts of one id are refused', async () => {
    write({ id: 'a', prompt: 'One?' }, { id: 'a', prompt: 'Two?' })
    expect((await apar()).stderr).toMatch(/--prompts: a is the id of two prompts/)
  })
})
