import type { TraceStep } from '../../shared/protocol/trace.ts'

/** Steps, tokens per step, the most of branches and KV blocks, and the time in the engine, in one line. */
export function traceSummary(steps: readonly TraceStep[]): string {
  if (steps.length === 0) return 'no trace: the gpu node is of an older version'
  const sampling = steps.filter(({ sampled }) => sampled > 0)
  const tokens = steps.reduce((sum, step) => step.tokens.reduce((all, { ids }) => all + ids.length, sum), 0)
  const most = (of: (step: TraceStep) => number) =>
    steps.reduce((largest, step) => Math.max(largest, of(step)), 0)
  const perStep = sampling.length === 0 ? '' : `, ${(tokens / sampling.length).toFixed(2)} tokens a step`
  const ms = ((steps.at(-1)?.us ?? 0) / 1000).toFixed(0)
  const peaks = `at most ${most(({ live }) => live)} live branches and ${most(({ blocks }) => blocks)} KV blocks`
  return `${sampling.length} steps${perStep}, ${peaks}, ${ms} ms in the engine`
}
