import { type BenchCase, median } from '../report.ts'
import { type Answer, MODES, type Mode } from './ask.ts'
import { countRepeated, forkTitlesOf, problemsOf, titlesOf } from './quality.ts'

/** A prompt's answers. */
export interface Answered {
  readonly id: string
  readonly prompt: string
  /** Of the model that was tuned; the model's own serial answer where there is no other. */
  readonly base: Pick<Answer, 'text' | 'reason'>
  /** The base's answer with its weights rounded to 8 bits. */
  readonly roundedBase?: Pick<Answer, 'text' | 'reason'> | undefined
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

interface Judged extends Answered, Verdict {}

/** Goals apply to a model that was tuned from a base. Figures of nothing are left out. */
export function summarise(all: readonly Answered[], hasBase: boolean): BenchCase[] {
  const judged = all.map((answered): Judged => ({ ...answered, ...verdictOf(answered) }))
  const goals = ({ goal, ...row }: BenchCase) => ({ ...row, goal: hasBase ? goal : null })
  const ofBase = hasBase
    ? [
        figure(
          "base's answers that do not end",
          unfinished(judged, ({ base }) => base),
          'share',
          LOWER,
        ),
      ]
    : []
  return [...quality(judged), ...speed(judged), ...ofBase]
    .filter(({ value }) => Number.isFinite(value))
    .map(goals)
}

const LOWER = { better: 'lower' } as const

function quality(judged: readonly Judged[]): BenchCase[] {
  const forking = judged.filter(({ forks }) => forks > 0)
  const lists = judged.filter(({ baseItems }) => baseItems >= LIST_ITEMS)
  const others = judged.filter(({ baseItems }) => baseItems < LIST_ITEMS)
  const own = judged.filter(({ items }) => items >= LIST_ITEMS)
  const forkShare = (group: readonly Judged[]) => ratio(group, ({ forks }) => Number(forks > 0), one)
  const baseTitles = lists.map(({ base }) => titlesOf(base.text))
  const baseRepeats = ratio(baseTitles, countRepeated, ({ length }) => length)
  const itemRatios = lists.filter(({ items }) => items > 0).map(({ items, baseItems }) => items / baseItems)
  const known = Number.isFinite(baseRepeats) ? { goal: round(baseRepeats), peer: round(baseRepeats) } : {}
  const where = `where the base lists ${LIST_ITEMS} items or more`
  return [
    figure('prompts', judged.length, 'prompts'),
    figure(`forks ${where} (${lists.length} prompts)`, forkShare(lists), 'share', { goal: 0.9 }),
    figure(`forks elsewhere (${others.length} prompts)`, forkShare(others), 'share', {
      ...LOWER,
      goal: 0.05,
    }),
    figure('the base in int8 lists where the base lists', roundedLists(lists), 'share'),
    figure('the base in int8 lists elsewhere', roundedLists(others), 'share', LOWER),
    figure(`forks where its own answer lists ${LIST_ITEMS} items or more`, forkShare(own), 'share'),
    figure('well-formed, of forking answers', ratio(forking, wellFormed, one), 'share', { goal: 0.97 }),
    figure(
      'repeated titles, of forking answers',
      ratio(
        forking,
        ({ repeatedTitles }) => repeatedTitles,
        ({ items }) => items,
      ),
      'share',
      { ...LOWER, ...known },
    ),
    figure("items against the base's answer, median", median(itemRatios), 'x', { goal: 0.9 }),
    figure(
      'forks of forking answers, mean',
      ratio(forking, ({ forks }) => forks, one),
      'forks',
    ),
    ...MODES.map((mode) =>
      figure(
        `${mode} answers that do not end`,
        unfinished(judged, (each) => each[mode]),
        'share',
        LOWER,
      ),
    ),
  ]
}

function speed(judged: readonly Judged[]): BenchCase[] {
  const forking = judged.filter(({ forks }) => forks > 0)
  const others = judged.filter(({ forks }) => forks === 0)
  const tokens = (mode: Mode) => (each: Judged) => each[mode].tokens
  const steps = (mode: Mode) => (each: Judged) => each[mode].steps
  const ofGroup = (name: string, group: readonly Judged[], goal: number) => {
    const faster = speedUp(group)
    const perToken = faster * ratio(group, tokens('parallel'), tokens('serial'))
    return [
      figure(`speed-up, wall-clock, ${name}`, faster, 'x', { goal }),
      figure(`speed-up, wall-clock per token, ${name}`, perToken, 'x'),
    ]
  }
  return [
    figure(
      'tokens per step, forking answers',
      ratio(forking, tokens('parallel'), steps('parallel')),
      'tokens',
    ),
    ...ofGroup('forking answers', forking, 2.3),
    ...ofGroup('all answers', judged, 1.8),
    ...ofGroup('other answers', others, 0.97),
    figure('speed-up, steps, all answers', ratio(judged, steps('serial'), steps('parallel')), 'x'),
    ...MODES.flatMap((mode) => [
      figure(`${mode} tokens`, sum(judged, tokens(mode)), 'tokens', LOWER),
      figure(
        `${mode} speed`,
        1000 * ratio(judged, tokens(mode), ({ wallMs }) => median(wallMs[mode])),
        'tok/s',
      ),
    ]),
  ]
}

/** Totals of a repetition, then the median over the repetitions. */
function speedUp(group: readonly Judged[]): number {
  const repetitions = group[0]?.wallMs.serial.length ?? 0
  const total = (mode: Mode, repetition: number) =>
    sum(group, ({ wallMs }) => wallMs[mode][repetition] ?? Number.NaN)
  return median(
    Array.from({ length: repetitions }, (_, each) => total('serial', each) / total('parallel', each)),
  )
}

function unfinished(judged: readonly Judged[], of: (each: Judged) => Pick<Answer, 'reason'>): number {
  return ratio(judged, (each) => Number(of(each).reason !== 'stop'), one)
}

/** How far the base's own answers go apart for a small change: no model that was tuned from it can be closer to it. */
function roundedLists(group: readonly Judged[]): number {
  const asked = group.flatMap(({ roundedBase }) => roundedBase ?? [])
  return ratio(asked, ({ text }) => Number(titlesOf(text).length >= LIST_ITEMS), one)
}

const wellFormed = ({ problems }: Judged) => Number(problems.length === 0)
const one = () => 1

/** NaN of nothing. */
function ratio<T>(items: readonly T[], part: (item: T) => number, whole: (item: T) => number): number {
  return sum(items, part) / sum(items, whole)
}

function sum<T>(items: readonly T[], of: (item: T) => number): number {
  return items.reduce((total, item) => total + of(item), 0)
}

function figure(name: string, value: number, unit: string, more: Partial<BenchCase> = {}): BenchCase {
  return { case: name, value: round(value), unit, better: 'higher', goal: null, ...more }
}

function round(value: number): number {
  return Number(value.toPrecision(4))
}
