import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { askJudge } from '../../../cli/bench/judge/ask-judge.ts'
import { Judgments } from '../../../cli/bench/judge/judgments.ts'
import { choiceIn, ratingIn } from '../../../cli/bench/judge/verdict.ts'
import { RequestFailed } from '../../../cli/bench/serving/target/answer.ts'
import type { Target } from '../../../cli/bench/serving/target/target.ts'
import { createProgram } from '../../../cli/program.ts'
import { chatStream, type ScriptedServer, startScriptedServer } from './scripted-server.ts'

const folder = mkdtempSync(join(tmpdir(), 'apar-judge-'))
const fileOf = (name: string) => join(folder, name)

function writeLines(name: string, lines: readonly object[]): string {
  writeFileSync(fileOf(name), lines.map((line) => `${JSON.stringify(line)}\n`).join(''))
  return fileOf(name)
}

/** With the names and places of FastChat's file. */
const PROMPTS = [
  ['pair-v2', 'Q {question} A<{answer_a}> B<{answer_b}>'],
  ['pair-math-v1', 'Q {question} R<{ref_answer_1}> A<{answer_a}> B<{answer_b}>'],
  [
    'pair-v2-multi-turn',
    'Q {question_1} {question_2} A<{answer_a_1} {answer_a_2}> B<{answer_b_1} {answer_b_2}>',
  ],
  ['single-v1', 'Q {question} A<{answer}>'],
  ['single-v1-multi-turn', 'Q {question_1} {question_2} A<{answer_1} {answer_2}>'],
  ['single-math-v1', 'Q {question} R<{ref_answer_1}> A<{answer}>'],
].map(([name, prompt_template]) => ({
  name,
  system_prompt: `You judge: ${name}`,
  prompt_template,
  type: 'x',
}))

const QUESTIONS = [
  { question_id: 1, category: 'writing', turns: ['One?', 'And then?'] },
  { question_id: 2, category: 'math', turns: ['Two?'] },
]
const answer = (question_id: number, turns: string[], model_id: string) => ({
  ...{ question_id, model_id, answer_id: 'x' },
  choices: [{ index: 0, turns }],
})

let judge: ScriptedServer
/** What the judge says of the text it gets. */
let verdict: (text: string) => string
beforeAll(async () => {
  writeLines('judge_prompts.jsonl', PROMPTS)
  writeLines('questions.jsonl', QUESTIONS)
  writeLines('one.jsonl', [answer(1, ['good', 'good {answer_b} $& more'], 'one'), answer(2, ['good'], 'one')])
  writeLines('two.jsonl', [
    answer(1, ['bad', 'bad'], 'two'),
    answer(2, ['bad'], 'two'),
    answer(3, ['x'], 'two'),
  ])
  judge = await startScriptedServer(({ body }, response) => {
    const messages = body.messages as { content: string }[]
    response.end(chatStream([verdict(messages.at(-1)?.content ?? '')]))
  })
})
beforeEach(() => void judge.calls.splice(0))
afterAll(async () => {
  await judge.close()
  rmSync(folder, { recursive: true })
})

/** Prefers what is good, in whatever place. */
const fair = (text: string) => `Not [[C]] but ${/A<good/.test(text) ? '[[A]]' : '[[B]]'}`

async function run(
  out: string,
  ...args: string[]
): Promise<{ categories: Record<string, unknown>[]; sets: string[] }> {
  const log = vi.spyOn(console, 'log').mockImplementation(() => {})
  const error = vi.spyOn(console, 'error').mockImplementation(() => {})
  try {
    const options = [
      '--url',
      judge.url,
      '--model',
      'j',
      '--data',
      folder,
      '--out',
      fileOf(out),
      '--json',
      ...args,
    ]
    await (await createProgram())
      .exitOverride()
      .parseAsync(['node', 'apar', '--config', 'none', 'bench', 'judge', ...options])
    return JSON.parse(log.mock.calls.join('\n'))
  } finally {
    log.mockRestore()
    error.mockRestore()
  }
}

const bothSets = () => [
  '--answers',
  fileOf('one.jsonl'),
  fileOf('two.jsonl'),
  '--dataset',
  fileOf('questions.jsonl'),
]

describe('pairs', () => {
  test('are judged in both orders, turn by turn, and counted by category', async () => {
    verdict = fair
    const { categories, sets } = await run('pairs.jsonl', ...bothSets())
    expect(sets).toEqual(['one', 'two'])
    const won = { losses: 0, ties: 0, inconsistent: 0, unjudged: 0, win_rate: 1 }
    expect(categories).toEqual([
      { category: 'writing', pairs: 2, wins: 2, ...won },
      { category: 'math', pairs: 1, wins: 1, ...won },
      { category: 'all', pairs: 3, wins: 3, ...won },
    ])
    const asked = judge.calls.map(({ body }) =>
      (body.messages as { content: string }[]).map(({ content }) => content),
    )
    expect(asked).toHaveLength(6)
    expect(asked).toContainEqual(['You judge: pair-v2', 'Q One? A<good> B<bad>'])
    expect(asked).toContainEqual(['You judge: pair-v2', 'Q One? A<bad> B<good>'])
    // What an answer contains is text, not a place of the template.
    expect(asked).toContainEqual([
      'You judge: pair-v2-multi-turn',
      'Q One? And then? A<good good {answer_b} $& more> B<bad bad>',
    ])
    expect(judge.calls.every(({ body }) => body.temperature === 0 && body.max_tokens === 2048)).toBe(true)
  })

  test('are inconsistent where a judge prefers a place, and unjudged without a verdict', async () => {
    verdict = (text) => (text.includes('Two?') ? 'I cannot say.' : '[[A]]')
    const { categories } = await run('biased.jsonl', ...bothSets())
    expect(categories.at(-1)).toMatchObject({
      pairs: 3,
      wins: 0,
      inconsistent: 2,
      unjudged: 1,
      win_rate: 0.5,
    })
  })

  test('have the prompt for mathematics where there is a reference answer', async () => {
    verdict = fair
    const references = writeLines('references.jsonl', [answer(2, ['4'], 'gpt-4')])
    await run('math.jsonl', ...bothSets(), '--references', references)
    const prompts = judge.calls.map(({ body }) => (body.messages as { content: string }[])[1]?.content)
    expect(prompts).toContain('Q Two? R<4> A<good> B<bad>')
  })
})

describe('ratings', () => {
  test('are means of what the judge gave', async () => {
    verdict = (text) =>
      text.includes('Two?') ? 'Rating: [[8.5]]' : text.includes('And then?') ? 'none' : '[[6]]'
    const single = ['--answers', fileOf('one.jsonl'), '--dataset', fileOf('questions.jsonl')]
    const { categories } = await run('single.jsonl', ...single)
    expect(categories).toEqual([
      { category: 'writing', ratings: [{ count: 1, mean: 6, unjudged: 1 }] },
      { category: 'math', ratings: [{ count: 1, mean: 8.5, unjudged: 0 }] },
      { category: 'all', ratings: [{ count: 2, mean: 7.25, unjudged: 1 }] },
    ])
  })
})

test('answers of apar bench serving are judged by mode, with their own questions', async () => {
  verdict = fair
  const request = (id: string, mode: string, text: string, error: string | null = null) => ({
    ...{ type: 'request', id, mode, rate: null, round: 0, prompt: `Question ${id}`, text, error },
  })
  const out = writeLines('requests.jsonl', [
    { type: 'run', version: 1 },
    ...[request('a', 'serial', 'bad'), request('a', 'parallel', 'good'), request('a', 'parallel', 'bad')],
    ...[request('b', 'serial', 'bad'), request('b', 'parallel', '', 'overloaded')],
    { type: 'node', mode: 'serial', at_ms: 0 },
    { type: 'summary', mode: 'serial' },
  ])
  const { categories, sets } = await run('modes.jsonl', '--answers', `${out}#parallel`, `${out}#serial`)
  expect(sets).toEqual(['parallel', 'serial'])
  expect(categories).toMatchObject([{ category: 'all', pairs: 1, wins: 1 }])
  await expect(run('modes.jsonl', '--answers', out)).rejects.toThrow(`${out}#serial`)
})

describe('judgments that are there', () => {
  test('are not asked for again; what is missing is', async () => {
    verdict = fair
    const first = await run('again.jsonl', ...bothSets())
    judge.calls.splice(0)
    expect(await run('again.jsonl', ...bothSets())).toEqual(first)
    expect(judge.calls).toEqual([])
    // The process was killed in its last line.
    const text = readFileSync(fileOf('again.jsonl'), 'utf8')
    writeFileSync(fileOf('again.jsonl'), text.slice(0, -20))
    expect(await run('again.jsonl', ...bothSets())).toEqual(first)
    expect(judge.calls).toHaveLength(1)
    expect(readFileSync(fileOf('again.jsonl'), 'utf8').trim().split('\n')).toHaveLength(6)
  })

  test('of another kind of file are refused', async () => {
    appendFileSync(fileOf('other.jsonl'), '{"type": "run"}\n')
    await expect(run('other.jsonl', ...bothSets())).rejects.toThrow('something else than judgments')
  })
})

describe('a judge that fails', () => {
  const match = {
    ...{ question: '1', category: 'c', turn: 1, prompt: 'single-v1', players: [0] },
    messages: [{ role: 'user' as const, content: 'x' }],
  }
  const options = (codes: string[], name: string) => {
    const target: Target = {
      ask: async (_, answer) => {
        const code = codes.shift()
        if (code !== undefined) throw new RequestFailed(code, 'failed')
        answer.addText('[[5]]', 0)
      },
      close: () => {},
    }
    const judgments = new Judgments(fileOf(name))
    return {
      target,
      judgments,
      model: 'j',
      maxTokens: 8,
      concurrency: 2,
      names: ['a'],
      onProgress: () => {},
      waitMs: 1,
    }
  }

  test('for a moment is asked again', async () => {
    const codes = ['http_503', 'rate_limit_exceeded', 'ECONNRESET', 'timeout']
    await askJudge([match], options(codes, 'moment.jsonl'))
    expect(codes).toEqual([])
    expect(readFileSync(fileOf('moment.jsonl'), 'utf8')).toContain('[[5]]')
  })

  test.each([['invalid_api_key'], Array(6).fill('http_503')])(
    'for good ends the run: %s',
    async (...codes) => {
      await expect(askJudge([match], options(codes, 'good.jsonl'))).rejects.toThrow('failed')
    },
  )
})

test.each([
  ['[[A]]', 'A'],
  ['Not [[A]], rather [[C]]', 'tie'],
  ['A is better', undefined],
])('the choice in %j', (text, choice) => expect(choiceIn(text)).toBe(choice))

test.each([
  ['Rating: [[7]]', 7],
  ['[5], no [6.5]', 6.5],
  ['[3] of [[10]]', 10],
  ['[[11]]', undefined],
  ['seven', undefined],
])('the rating in %j', (text, rating) => expect(ratingIn(text)).toBe(rating))
