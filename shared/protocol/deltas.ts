import type { DeltaEvent, DeltasFrame, StreamEvent } from './events.ts'

/**
 * Merges every run of two or more consecutive deltas into one frame; the order of other events does not change.
 * Deltas with log-probabilities are not merged.
 */
export function coalesce(events: readonly StreamEvent[]): (StreamEvent | DeltasFrame)[] {
  const out: (StreamEvent | DeltasFrame)[] = []
  let run: DeltaEvent[] = []
  const flush = () => {
    const [first] = run
    if (first) out.push(run.length === 1 ? first : merge(run, first.seq))
    run = []
  }
  for (const event of events) {
    if (event.type === 'delta' && !event.logprobs) {
      run.push(event)
    } else {
      flush()
      out.push(event)
    }
  }
  flush()
  return out
}

function merge(run: readonly DeltaEvent[], first: number): DeltasFrame {
  const texts = new Map<number, string>()
  for (const { branch, text } of run) texts.set(branch, (texts.get(branch) ?? '') + text)
  return {
    type: 'deltas',
    first,
    seq: first + run.length - 1,
    texts: [...texts].map(([branch, text]) => ({ branch, text })),
  }
}

/** Converts the frame to single events: one delta per branch, numbered within the frame's range. */
export function expand({ first, texts }: DeltasFrame): DeltaEvent[] {
  return texts.map(({ branch, text }, index) => ({ type: 'delta', seq: first + index, branch, text }))
}
