import { describe, expect, test } from 'vitest'
import { answersPage } from '../../bench/apar/answers.ts'
import type { Answer, AnswerBranch } from '../../bench/apar/ask.ts'
import { countRepeated, forkTitlesOf, problemsOf, titlesOf } from '../../bench/apar/quality.ts'
import { type Answered, summarise, verdictOf } from '../../bench/apar/summary.ts'

const LIST = [
  'Here are three ways:',
  '',
  '1. **Walk**: it costs nothing and keeps you fit.',
  '2. **Cycle**: it is faster than walking through the town.',
  '3. **Walk**: it was so nice that it is named twice.',
].join('\n')

/** A root that forks behind each of its pieces but the last, and the details. */
function forked(pieces: readonly string[], details: readonly string[]): AnswerBranch[] {
  let at = 0
  const children = details.map((text, index): AnswerBranch => {
    at += pieces[index]?.length ?? 0
    return { id: index + 1, parent: 0, at, text, reason: 'stop' }
  })
  return [{ id: 0, parent: null, at: 0, text: pieces.join(''), reason: 'stop' }, ...children]
}

const GOOD = forked(
  ['Ways:\n\n1. Walk:', '\n2. Ride:', '\n3. Fly:'],
  [' It is free.', ' It is fast.', ' It is far.'],
)

test('titles of lists', () => {
  expect(titlesOf(LIST)).toEqual(['walk', 'cycle', 'walk'])
  expect(countRepeated(titlesOf(LIST))).toBe(1)
  expect(titlesOf('Only a sentence.')).toEqual([])
  expect(titlesOf('First of all, a long sentence. And more of it.\n\n'.repeat(4))).toEqual([])
})

test('titles of forks', () => {
  expect(forkTitlesOf({ branches: GOOD })).toEqual(['walk', 'ride', 'fly'])
  // A fork of a branch is no item of the list.
  const nested = [...GOOD, { id: 9, parent: 1, at: 3, text: ' more.', reason: 'stop' as const }]
  expect(forkTitlesOf({ branches: nested })).toEqual(['walk', 'ride', 'fly'])
})

describe('the form of a forking answer', () => {
  const problems = (change: (branches: AnswerBranch[]) => AnswerBranch[]) =>
    problemsOf({ branches: change([...GOOD]) })
  const second = (more: Partial<AnswerBranch>) => (branches: AnswerBranch[]) =>
    branches.map((branch) => (branch.id === 2 ? { ...branch, ...more } : branch))

  test('is good', () => expect(problems((branches) => branches)).toEqual([]))
  test('a detail says nothing', () => {
    expect(problems(second({ text: ' \n' }))).toEqual(['a detail is empty'])
  })
  test('a branch is cut', () => {
    expect(problems(second({ reason: 'length' }))).toEqual(['a branch does not end'])
  })
  test('a detail sticks to its title', () => {
    expect(problems(second({ text: 'It is fast.' }))).toEqual(['the texts around a fork run into each other'])
  })
  test('the next title sticks to a detail', () => {
    const branches = forked(['1. Walk:', '2. Ride:'], [' It is free.', ' It is fast.'])
    expect(problemsOf({ branches })).toEqual(['the texts around a fork run into each other'])
  })
})

describe('figures', () => {
  const answer = (more: Partial<Answer> = {}): Answer => ({
    ...{
      text: 'No list.',
      branches: forked(['No list.'], []),
      reason: 'stop',
      tokens: 60,
      steps: 60,
      wallMs: 600,
      speculation: undefined,
    },
    ...more,
  })
  const parallel = answer({ branches: GOOD, tokens: 60, steps: 20 })
  const of = (base: string, fork: boolean): Answered => ({
    id: 'x',
    prompt: 'How?',
    base: { text: base, reason: 'stop' },
    serial: answer(),
    parallel: fork ? parallel : answer(),
    wallMs: { serial: [600, 660], parallel: fork ? [200, 200] : [600, 660] },
  })
  const values = (answered: readonly Answered[], hasBase = true) =>
    Object.fromEntries(
      summarise(answered, hasBase).map(({ case: name, value }) => [name.replace(/ \(.*/, ''), value]),
    )

  test('of one answer', () => {
    expect(verdictOf(of(LIST, true))).toEqual({
      forks: 3,
      baseItems: 3,
      items: 3,
      repeatedTitles: 0,
      problems: [],
    })
    expect(verdictOf(of('No list.', false))).toEqual({
      forks: 0,
      baseItems: 0,
      items: 0,
      repeatedTitles: 0,
      problems: [],
    })
  })

  test('of all answers', () => {
    const answered = [
      of(LIST, true),
      of(LIST, false),
      of('No list.', true),
      of('No list.', false),
      of('No list.', false),
    ]
    expect(values(answered)).toMatchObject({
      'forks where the base lists 3 items or more': 0.5,
      'forks elsewhere': 0.3333,
      'forks where its own answer lists 3 items or more': 1,
      'well-formed, of forking answers': 1,
      'repeated titles, of forking answers': 0,
      "items against the base's answer, median": 1,
      'tokens per step, forking answers': 3,
      // The median of 3 and 3.3.
      'speed-up, wall-clock, forking answers': 3.15,
      'speed-up, wall-clock, other answers': 1,
      'parallel answers that do not end': 0,
    })
  })

  test("of the base's own answers with rounded weights", () => {
    const rounded = (base: string, text: string) => ({
      ...of(base, true),
      roundedBase: { text, reason: 'stop' } as const,
    })
    const answered = [rounded(LIST, LIST), rounded(LIST, 'No list.'), rounded('No list.', 'No list.')]
    expect(values(answered)).toMatchObject({
      'the base in int8 lists where the base lists': 0.5,
      'the base in int8 lists elsewhere': 0,
    })
    expect(Object.keys(values([of(LIST, true)])).filter((name) => name.includes('int8'))).toEqual([])
  })

  test("the base's rate of repeated titles is the goal", () => {
    const cases = summarise([of(LIST, true)], true)
    expect(cases.find(({ case: name }) => name.startsWith('repeated'))).toMatchObject({
      value: 0,
      goal: 0.3333,
    })
    expect(summarise([of(LIST, true)], false).filter(({ goal }) => goal !== null)).toEqual([])
  })
})

test('a page of answers has the first that fork, and the worst', () => {
  const sample = (id: number, forks: number, more: object = {}) =>
    JSON.stringify({
      ...{
        id,
        prompt: `Question ${id}?`,
        parallel: { text: `Answer ${id} with \`\`\`code\`\`\``, reason: 'stop' },
      },
      verdict: { forks, repeatedTitles: 0, problems: [] },
      ...more,
    })
  const endless = { parallel: { text: 'and and', reason: 'length' } }
  const lines = [
    sample(1, 0),
    ...Array.from({ length: 12 }, (_, index) => sample(100 + index, 2)),
    sample(2, 0, endless),
    sample(3, 3, { verdict: { forks: 3, repeatedTitles: 2, problems: ['a detail is empty'] } }),
    sample(4, 3, { verdict: { forks: 3, repeatedTitles: 1, problems: [] } }),
  ]
  const headings = answersPage(lines).match(/^##+ .*/gm)
  const firstTen = Array.from({ length: 10 }, (_, index) => `### ${100 + index}`)
  expect(headings).toEqual([
    ...['## The first 10 that fork', ...firstTen],
    ...['## The 3 worst of all', '### 2', '### 3', '### 4'],
  ])
  expect(answersPage(lines)).toContain('````text\nAnswer 100 with ```code```\n````\n\n*forks: 2*')
  expect(answersPage(lines)).toContain('*forks: 3; a detail is empty; titles that are there before: 2*')
})
