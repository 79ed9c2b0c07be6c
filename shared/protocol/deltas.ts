import type { DeltaEvent, DeltasFrame, StreamEvent } from './events.ts'

/**
 * `events` with every run of two or more deltas as one frame; nothing moves past what is no delta. Deltas with
 * log-probabilities stay as they are.
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

/** What a reader of single events makes of the frame: one delta per branch, numbered within the frame's range. */
export function expand({ first, texts }: DeltasFrame): DeltaEvent[] {
  return texts.map(({ branch, text }, index) => ({ type: 'delta', seq: first + index, branch, text }))
}
