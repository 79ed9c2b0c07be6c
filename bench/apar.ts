import { existsSync, readFileSync } from 'node:fs'
import { z } from 'zod'
import { openRunner } from '../gpu-node/open-runner.ts'
import type { Runner } from '../gpu-node/runner.ts'
import { parseJson } from '../shared/parse.ts'
import type { DoneEvent } from '../shared/protocol/events.ts'
import {
  type BenchCase,
  type BenchOptions,
  type BenchResult,
  commit,
  machine,
  median,
  SampleFile,
} from './report.ts'

const MODEL = 'models/demo'
const PROMPTS = `${MODEL}/heldout_prompts.json`
const REPETITIONS = 5
const QUICK_PROMPTS = 4
/** An answer that runs on must not outweigh the others. */
const MAX_TOKENS = 512

const MODES = ['parallel', 'serial'] as const
type Mode = (typeof MODES)[number]

interface Sample {
  wallMs: number
  steps: number
  tokens: number
  forks: number
  branches: number
  reason: string
}

const Prompts = z.array(z.string().min(1)).min(1)

/**
 * Parallel against serial decoding of the demo model, on prompts it was not trained on: one request at a time through
 * the gpu node's own path (template, engine, text), no network. Greedy. The two modes alternate prompt by prompt.
 */
export async function apar({ quick }: BenchOptions): Promise<BenchResult> {
  if (!existsSync(PROMPTS)) throw new Error(`${PROMPTS} is missing: the demo model's held-out prompts`)
  const prompts = parseJson(Prompts, readFileSync(PROMPTS, 'utf8')).slice(
    0,
    quick ? QUICK_PROMPTS : undefined,
  )
  const repetitions = quick ? 1 : REPETITIONS
  const runner = await openRunner(MODEL)
  const file = new SampleFile('apar')
  const totals: Record<Mode, Sample[]> = { parallel: [], serial: [] }
  try {
    for (const mode of MODES) await generate(runner, prompts[0] ?? '', mode)
    for (let repetition = 0; repetition < repetitions; repetition++) {
      // Whoever goes second may find warmer caches: they take turns.
      const order = repetition % 2 === 0 ? MODES : MODES.toReversed()
      const samples: Record<Mode, Sample[]> = { parallel: [], serial: [] }
      for (const [index, prompt] of prompts.entries()) {
        for (const mode of order) {
          const sample = await generate(runner, prompt, mode)
          samples[mode].push(sample)
          file.add({ bench: 'apar', repetition, prompt: index, mode, seed: null, ...sample })
        }
      }
      for (const mode of MODES) totals[mode].push(sum(samples[mode]))
      console.error(`apar: repetition ${repetition + 1} of ${repetitions}, ${prompts.length} prompts`)
    }
  } finally {
    await runner.close()
  }
  return {
    bench: 'apar',
    commit: commit(),
    machine: machine(),
    samples: file.path,
    cases: cases(totals, prompts.length),
  }
}

async function generate(runner: Runner, prompt: string, mode: Mode): Promise<Sample> {
  const before = runner.stats()
  const begun = performance.now()
  const done = await new Promise<DoneEvent>((resolve, reject) => {
    const request = {
      model: runner.model,
      messages: [{ role: 'user' as const, content: prompt }],
      max_tokens: MAX_TOKENS,
      temperature: 0,
      branching: { enabled: mode === 'parallel' },
    }
    runner.start('bench', request, (event) => {
      if (event.type === 'done') resolve(event)
      if (event.type === 'error') reject(new Error(event.message))
    })
  })
  const wallMs = performance.now() - begun
  const after = runner.stats()
  return {
    wallMs,
    steps: after.steps - before.steps,
    tokens: done.usage.completion_tokens,
    forks: after.forks - before.forks,
    branches: done.usage.branches.length,
    reason: done.reason,
  }
}

function sum(samples: readonly Sample[]): Sample {
  const add = (field: 'wallMs' | 'steps' | 'tokens' | 'forks' | 'branches') =>
    samples.reduce((total, sample) => total + sample[field], 0)
  const cut = samples.filter(({ reason }) => reason !== 'stop').length
  return {
    wallMs: add('wallMs'),
    steps: add('steps'),
    tokens: add('tokens'),
    forks: add('forks'),
    branches: add('branches'),
    reason: `${cut} cut`,
  }
}

/** Totals over all prompts, medians over the repetitions; ratios within a repetition, then their median. */
function cases(totals: Record<Mode, Sample[]>, prompts: number): BenchCase[] {
  const of = (mode: Mode, value: (total: Sample) => number) => round(median(totals[mode].map(value)))
  const ratio = (value: (total: Sample) => number) =>
    round(
      median(totals.serial.map((serial, index) => value(serial) / value(totals.parallel[index] ?? serial))),
    )
  const row = (name: string, value: number, unit: string, better: BenchCase['better']): BenchCase => ({
    case: name,
    value,
    unit,
    better,
    goal: null,
  })
  const perMode = MODES.flatMap((mode) => [
    row(
      `${mode} wall-clock`,
      of(mode, ({ wallMs }) => wallMs),
      'ms',
      'lower',
    ),
    row(
      `${mode} steps`,
      of(mode, ({ steps }) => steps),
      'steps',
      'lower',
    ),
    row(
      `${mode} tokens`,
      of(mode, ({ tokens }) => tokens),
      'tokens',
      'lower',
    ),
    row(
      `${mode} speed`,
      of(mode, ({ tokens, wallMs }) => (tokens / wallMs) * 1000),
      'tok/s',
      'higher',
    ),
  ])
  return [
    row(
      'speed-up, wall-clock',
      ratio(({ wallMs }) => wallMs),
      'x',
      'higher',
    ),
    row(
      'speed-up, steps',
      ratio(({ steps }) => steps),
      'x',
      'higher',
    ),
    row(
      'speed-up, tokens per second',
      ratio(({ tokens, wallMs }) => wallMs / tokens),
      'x',
      'higher',
    ),
    ...perMode,
    row(
      'forks per prompt',
      of('parallel', ({ forks }) => forks / prompts),
      'forks',
      'higher',
    ),
  ]
}

function round(value: number): number {
  return Number(value.toPrecision(4))
}
