import { readFileSync } from 'node:fs'
import { z } from 'zod'
import { openRunner } from '../gpu-node/open-runner.ts'
import type { Runner } from '../gpu-node/requests/runner.ts'
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
const PROMPTS = 'bench/heldout-prompts.json'
const REPETITIONS = 5
const QUICK_EVERY = 6
/** Limits the weight of an answer that does not end by itself. */
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
type Field = 'wallMs' | 'steps' | 'tokens'

interface Run extends Sample {
  repetition: number
  kind: Kind
  mode: Mode
}

/** Prompts that the demo model was not trained on. `kind`: the structure of the expected answer. */
const PromptFile = z.object({
  prompts: z.array(
    z.object({ kind: z.enum(['list', 'paragraphs', 'unstructured']), prompt: z.string().min(1) }),
  ),
})
type Prompt = z.infer<typeof PromptFile>['prompts'][number]
type Kind = Prompt['kind']

/**
 * Compares parallel with serial decoding of the demo model, on prompts that it was not trained on: one greedy
 * request at a time through the gpu node's own path (template, engine, text), without network. The two modes
 * alternate on each prompt.
 */
export async function apar({ quick }: BenchOptions): Promise<BenchResult> {
  const all = parseJson(PromptFile, readFileSync(PROMPTS, 'utf8')).prompts
  const prompts = quick ? all.filter((_, index) => index % QUICK_EVERY === 0) : all
  const repetitions = quick ? 1 : REPETITIONS
  const runner = await openRunner(MODEL)
  const file = new SampleFile('apar')
  const runs: Run[] = []
  try {
    // Warm-up: after it every prompt is in the prefix cache, for both modes.
    for (const { prompt } of prompts) await generate(runner, prompt, 'parallel')
    for (let repetition = 0; repetition < repetitions; repetition++) {
      // The second mode may profit from warmer caches, so the order alternates.
      const order = repetition % 2 === 0 ? MODES : MODES.toReversed()
      for (const { kind, prompt } of prompts) {
        for (const mode of order) {
          const sample = await generate(runner, prompt, mode)
          runs.push({ repetition, kind, mode, ...sample })
          file.add({ bench: 'apar', repetition, kind, prompt, mode, seed: null, ...sample })
        }
      }
      console.error(`apar: repetition ${repetition + 1} of ${repetitions}, ${prompts.length} prompts`)
    }
  } finally {
    await runner.close()
  }
  return { bench: 'apar', commit: commit(), machine: machine(), samples: file.path, cases: cases(runs) }
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
    runner.start('bench', request, ({ events }) => {
      const last = events.at(-1)
      if (last?.type === 'done') resolve(last)
      if (last?.type === 'error') reject(new Error(last.message))
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

/**
 * Totals over all prompts of a repetition, then medians over the repetitions; ratios are computed within a
 * repetition.
 */
function cases(runs: readonly Run[]): BenchCase[] {
  const repetitions = [...new Set(runs.map(({ repetition }) => repetition))]
  const perRepetition = (value: (of: (mode: Mode, field: Field, kind?: Kind) => number) => number) =>
    round(
      median(
        repetitions.map((repetition) =>
          value((mode, field, kind) =>
            runs
              .filter(
                (run) =>
                  run.repetition === repetition && run.mode === mode && run.kind === (kind ?? run.kind),
              )
              .reduce((total, run) => total + run[field], 0),
          ),
        ),
      ),
    )
  const row = (name: string, value: number, unit: string, better: BenchCase['better']): BenchCase => ({
    case: name,
    value,
    unit,
    better,
    goal: null,
  })
  const speedUp = (field: Field, kind?: Kind) =>
    perRepetition((of) => of('serial', field, kind) / of('parallel', field, kind))
  const perToken = perRepetition(
    (of) =>
      of('serial', 'wallMs') / of('serial', 'tokens') / (of('parallel', 'wallMs') / of('parallel', 'tokens')),
  )
  const perMode = MODES.flatMap((mode) => [
    row(
      `${mode} wall-clock`,
      perRepetition((of) => of(mode, 'wallMs')),
      'ms',
      'lower',
    ),
    row(
      `${mode} steps`,
      perRepetition((of) => of(mode, 'steps')),
      'steps',
      'lower',
    ),
    row(
      `${mode} tokens`,
      perRepetition((of) => of(mode, 'tokens')),
      'tokens',
      'lower',
    ),
    row(
      `${mode} speed`,
      perRepetition((of) => (of(mode, 'tokens') / of(mode, 'wallMs')) * 1000),
      'tok/s',
      'higher',
    ),
  ])
  const kinds = [...new Set(runs.map(({ kind }) => kind))]
  const answers = runs.filter(({ mode, repetition }) => mode === 'parallel' && repetition === 0)
  const forking = answers.filter(({ forks }) => forks > 0).length / answers.length
  return [
    row('speed-up, wall-clock', speedUp('wallMs'), 'x', 'higher'),
    row('speed-up, steps', speedUp('steps'), 'x', 'higher'),
    row('speed-up, wall-clock per token', perToken, 'x', 'higher'),
    ...kinds.map((kind) => row(`speed-up, wall-clock, ${kind}`, speedUp('wallMs', kind), 'x', 'higher')),
    ...perMode,
    row('answers that fork', round(forking), 'share', 'higher'),
  ]
}

function round(value: number): number {
  return Number(value.toPrecision(4))
}
