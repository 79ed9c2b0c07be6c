import { type BenchCase, median } from '../report.ts'
import { type Answer, MODES, type Mode } from './ask.ts'
import { countRepeated, forkTitlesOf, problemsOf, titlesOf } from './quality.ts'

/** A prompt's answers. */
export interface Answered {
  readonly id: string
  readonly prompt: string
  /** Of the model that was tuned; the model's own serial answer where there is no other. */
  readonly base: Pick<Answer, 'text' | 'reason'>
  readonly serial: Answer
  readonly parallel: Answer
  /** Wall-clock of each repetition, in ms. */
  readonly wallMs: Readonly<Record<Mode, readonly number[]>>
}

/** What a forking model is judged by. */
export interface Verdict {
  readonly forks: number
  /** Items of the base's answer, 0 for one that is no list. */
  readonly baseItems: number
  readonly items: number
  readonly repeatedTitles: number
  readonly problems: readonly string[]
}

/** From so many items on, a base's answer is one that should fork. */
const LIST_ITEMS = 3

export function verdictOf({ base, parallel }: Pick<Answered, 'base' | 'parallel'>): Verdict {
  const forks = parallel.branches.length - 1
  const titles = forks > 0 ? forkTitlesOf(parallel) : titlesOf(parallel.text)
  return {
    forks,
    baseItems: titlesOf(base.text).length,
    items: titles.length,
    repeatedTitles: countRepeated(titles),
    problems: forks > 0 ? problemsOf(parallel) : [],
  }
}

/** Goals apply to a model that was tuned from a base. */
export function summarise(all: readonly Answered[], hasBase: boolean): BenchCase[] {
  const judged = all.map((answered) => ({ ...answered, ...verdictOf(answered) }))
  type Judged = (typeof judged)[number]
  const forking = judged.filter(({ forks }) => forks > 0)
  const lists = judged.filter(({ baseItems }) => baseItems >= LIST_ITEMS)
  const others = judged.filter(({ baseItems }) => baseItems < LIST_ITEMS)
  const baseTitles = lists.map(({ base }) => titlesOf(base.text))
  const baseRepeats = share(
    sum(baseTitles, countRepeated),
    sum(baseTitles, ({ length }) => length),
  )
  const itemRatios = lists.filter(({ items }) => items > 0).map(({ items, baseItems }) => items / baseItems)
  const cut = (of: (answered: Judged) => Pick<Answer, 'reason'>) =>
    share(judged.filter((each) => of(each).reason !== 'stop').length, judged.length)
  const row = (name: string, value: number, unit: string, more: Partial<BenchCase> = {}): BenchCase => ({
    ...{ case: name, value: round(value), unit, better: 'higher', goal: null },
    ...more,
  })
  const goal = (figure: number) => (hasBase ? { goal: figure } : {})
  const lower = { better: 'lower' } as const
  const groups = {
    'all answers': judged,
    'forking answers': forking,
    'other answers': judged.filter(({ forks }) => forks === 0),
  }
  return [
    row('prompts', judged.length, 'prompts'),
    row(
      `forks where the base lists ${LIST_ITEMS} items or more (${lists.length} prompts)`,
      forkShare(lists),
      'share',
      goal(0.9),
    ),
    row(`forks elsewhere (${others.length} prompts)`, forkShare(others), 'share', {
      ...lower,
      ...goal(0.05),
    }),
    row(
      'well-formed, of forking answers',
      share(forking.filter(({ problems }) => problems.length === 0).length, forking.length),
      'share',
      goal(0.97),
    ),
    row(
      'repeated titles, of forking answers',
      share(
        sum(forking, ({ repeatedTitles }) => repeatedTitles),
        sum(forking, ({ items }) => items),
      ),
      'share',
      {
        ...lower,
        ...(hasBase && { goal: round(baseRepeats), peer: round(baseRepeats) }),
      },
    ),
    row("items against the base's answer, median", median(itemRatios), 'x', goal(0.9)),
    row('forks of forking answers, mean', sum(forking, ({ forks }) => forks) / forking.length, 'forks'),
    row(
      'tokens per step, forking answers',
      share(
        sum(forking, ({ parallel }) => parallel.tokens),
        sum(forking, ({ parallel }) => parallel.steps),
      ),
      'tokens',
    ),
    ...Object.entries(groups).flatMap(([name, group]) => [
      row(
        `speed-up, wall-clock, ${name}`,
        speedUp(group),
        'x',
        GOALS[name] === undefined ? {} : goal(GOALS[name]),
      ),
      row(`speed-up, wall-clock per token, ${name}`, perToken(group), 'x'),
    ]),
    row(
      'speed-up, steps, all answers',
      share(
        sum(judged, ({ serial }) => serial.steps),
        sum(judged, ({ parallel }) => parallel.steps),
      ),
      'x',
    ),
    ...MODES.flatMap((mode) => {
      const tokens = sum(judged, (each) => each[mode].tokens)
      const ms = sum(judged, (each) => median(each.wallMs[mode]))
      return [
        row(`${mode} tokens`, tokens, 'tokens', lower),
        row(`${mode} speed`, (tokens / ms) * 1000, 'tok/s'),
      ]
    }),
    ...MODES.map((mode) =>
      row(
        `${mode} answers that do not end`,
        cut((each) => each[mode]),
        'share',
        lower,
      ),
    ),
    ...(hasBase
      ? [
          row(
            "base's answers that do not end",
            cut(({ base }) => base),
            'share',
            lower,
          ),
        ]
      : []),
  ]
}

const GOALS: Readonly<Record<string, number>> = {
  'forking answers': 2.3,
  'all answers': 1.8,
  'other answers': 0.97,
}

type Timed = Pick<Answered, 'wallMs' | 'serial' | 'parallel'>

/** Totals of a repetition, then the median over the repetitions. */
function speedUp(group: readonly Timed[]): number {
  const repetitions = group[0]?.wallMs.serial.length ?? 0
  const total = (mode: Mode, repetition: number) =>
    sum(group, ({ wallMs }) => wallMs[mode][repetition] ?? Number.NaN)
  const ratios = Array.from(
    { length: repetitions },
    (_, each) => total('serial', each) / total('parallel', each),
  )
  return median(ratios)
}

function perToken(group: readonly Timed[]): number {
  return (
    speedUp(group) *
    share(
      sum(group, ({ parallel }) => parallel.tokens),
      sum(group, ({ serial }) => serial.tokens),
    )
  )
}

function forkShare(group: readonly { forks: number }[]): number {
  return share(group.filter(({ forks }) => forks > 0).length, group.length)
}

function sum<T>(items: readonly T[], of: (item: T) => number): number {
  return items.reduce((total, item) => total + of(item), 0)
}

/** NaN of nothing: a figure that does not exist. */
function share(part: number, whole: number): number {
  return part / whole
}

function round(value: number): number {
  return Number(value.toPrecision(4))
}
