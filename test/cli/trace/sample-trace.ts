import type { Mode, TracedTurn, TraceOfQuestion } from '../../../cli/trace/trace-file.ts'
import type { TraceStep } from '../../../shared/protocol/trace.ts'

const FORK = 90
const CHILD = 91

const NO_FIGURES = { batch_rows: 2, used_blocks: 4, cached: 10 }

/**
 * A turn of two branches, made by hand. Prompt 1 2 3; the root writes "1. a:", forks, writes "\nend"; the child writes
 * " one", then " two". The fork is in step 1, the root ends in step 3 and the child in step 4.
 */
export function forkingSteps(): TraceStep[] {
  const step = (number: number, fields: Partial<TraceStep>): TraceStep => ({
    ...{
      ...NO_FIGURES,
      step: number,
      us: 1000 * (number + 1),
      rows: 1,
      live: 1,
      sampled: 1,
      blocks: 1,
      attended: 4,
    },
    ...{ tokens: [], forks: [], ends: [] },
    ...fields,
  })
  return [
    step(0, { rows: 3, attended: 6, prompt: [1, 2, 3], tokens: [{ branch: 0, ids: [10], text: '1. a:' }] }),
    step(1, {
      tokens: [
        { branch: 0, ids: [FORK], text: '' },
        { branch: 1, ids: [CHILD], text: '' },
      ],
      forks: [{ branch: 1, parent: 0, position: 4 }],
    }),
    step(2, {
      ...{ rows: 2, live: 2, sampled: 2, blocks: 2, attended: 11 },
      tokens: [
        { branch: 0, ids: [11], text: '\nend' },
        { branch: 1, ids: [12], text: ' one' },
      ],
    }),
    step(3, {
      ...{ rows: 2, live: 2, sampled: 2, blocks: 2, attended: 13, drafted: 2, accepted: 1 },
      tokens: [{ branch: 1, ids: [13, 14], text: ' two' }],
      ends: [{ branch: 0, reason: 'stop' }],
    }),
    step(4, { attended: 9, ends: [{ branch: 1, reason: 'stop' }] }),
  ]
}

/** The same text in one branch. */
export function serialSteps(): TraceStep[] {
  const tokens = [10, 12, 13, 14, 11].map((id, index) => ({
    ids: [id],
    text: ['1. a:', ' one', ' two', '', '\nend'][index] ?? '',
  }))
  const steps = tokens.map(({ ids, text }, index): TraceStep => {
    const rows = index === 0 ? 3 : 1
    const figures = {
      ...NO_FIGURES,
      rows,
      live: 1,
      sampled: 1,
      blocks: 2,
      attended: index === 0 ? 6 : 3 + index,
    }
    const prompt = index === 0 ? { prompt: [1, 2, 3] } : {}
    return {
      ...figures,
      step: index,
      us: 1000 * (index + 1),
      tokens: [{ branch: 0, ids, text }],
      forks: [],
      ends: [],
      ...prompt,
    }
  })
  const last = {
    ...NO_FIGURES,
    step: 5,
    us: 6000,
    rows: 1,
    live: 1,
    sampled: 1,
    blocks: 2,
    attended: 8,
    tokens: [],
    forks: [],
  }
  return [...steps, { ...last, ends: [{ branch: 0, reason: 'stop' }] }]
}

export function turnOf(steps: TraceStep[], text: string, turn = 1): TracedTurn {
  const tokens = steps.flatMap((step) => step.tokens.flatMap(({ ids }) => ids)).length
  const usage = {
    prompt_tokens: 3,
    cached_prompt_tokens: 0,
    completion_tokens: tokens,
    total_tokens: 3 + tokens,
    branches: [],
  }
  return {
    begin: { type: 'turn', turn, prompt: 'What is a?', joints: 'kept', created: 1 },
    steps,
    end: { type: 'end', turn, reason: 'stop', usage, text, wall_ms: 7 },
  }
}

export function traceOf(id: string, mode: Mode, category = 'writing'): TraceOfQuestion {
  const question = { question_id: 81, category, turns: ['What is a?'] }
  const steps = mode === 'parallel' ? forkingSteps() : serialSteps()
  return {
    head: { type: 'trace', version: 1, id, category, mode, model: 'm', question, before: [], turns: 1 },
    turns: [turnOf(steps, '1. a: one two\nend')],
    refused: undefined,
  }
}
