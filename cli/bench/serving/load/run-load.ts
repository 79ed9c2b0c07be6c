import { setImmediate, setTimeout as sleep } from 'node:timers/promises'
import { ReceivedAnswer, RequestFailed } from '../target/answer.ts'
import type { BenchRequest, Target } from '../target/target.ts'
import type { ArrivalTimes } from '../workload/arrivals.ts'
import type { Sample } from './sample.ts'

/** A request with its name. */
export interface NamedRequest {
  readonly id: string
  readonly request: BenchRequest
}

export interface LoadPlan {
  readonly target: Target
  readonly requests: readonly NamedRequest[]
  /** One for each request, ascending. */
  readonly arrivals: ArrivalTimes
  readonly concurrency: number | null
  /** As soon as each request has ended. */
  readonly onSample?: (sample: Sample) => void
}

export interface LoadResult {
  /** In the order of the requests. */
  readonly samples: Sample[]
  /** From the first sending to the last end. */
  readonly durationMs: number
  /** How late requests were sent that no limit made wait. */
  readonly latenessMs: number[]
}

/**
 * Sends requests when they are due, however many are in flight (an open loop), or as soon as there is a place when
 * `concurrency` limits them. A failed request is a sample like any other.
 */
export async function runLoad({
  target,
  requests,
  arrivals,
  concurrency,
  onSample = () => {},
}: LoadPlan): Promise<LoadResult> {
  const begun = performance.now()
  const places = new Places(concurrency ?? Number.POSITIVE_INFINITY)
  const latenessMs: number[] = []
  const running: Promise<Sample>[] = []
  /** Those behind one that had to wait for a place could not be sent before it. */
  let heldUntilMs = 0
  let lastSentMs = 0
  for (const [index, each] of requests.entries()) {
    const dueMs = arrivals[index] ?? 0
    const wait = dueMs - (performance.now() - begun)
    if (wait > 0) await sleep(wait)
    const waited = await places.take()
    const nowMs = performance.now() - begun
    // Of requests that are due together, each has its turn.
    const couldBeMs = dueMs === arrivals[index - 1] ? lastSentMs : dueMs
    if (waited) heldUntilMs = nowMs
    else latenessMs.push(Math.max(0, nowMs - Math.max(couldBeMs, heldUntilMs)))
    lastSentMs = nowMs
    const sampled = measure(target, each, { begun, dueMs }).then((sample) => {
      places.give()
      onSample(sample)
      return sample
    })
    // It fails only by a fault of this program, which the caller hears of below.
    sampled.catch(() => {})
    running.push(sampled)
    // Else the bytes of the first of many requests would leave behind the last one's.
    await setImmediate()
  }
  const samples = await Promise.all(running)
  // They are sent in their order.
  const first = samples[0]?.sent_ms ?? 0
  const last = samples.reduce((most, { sent_ms, e2e_ms }) => Math.max(most, sent_ms + e2e_ms), 0)
  return { samples, durationMs: last - first, latenessMs }
}

async function measure(
  target: Target,
  { id, request }: NamedRequest,
  { begun, dueMs }: { begun: number; dueMs: number },
): Promise<Sample> {
  const answer = new ReceivedAnswer()
  const sent = performance.now()
  let failure: RequestFailed | undefined
  try {
    await target.ask(request, answer)
  } catch (error) {
    if (!(error instanceof RequestFailed)) throw error
    failure = error
  }
  const ended = performance.now()
  const { pieceTimes, usage } = answer
  const [first] = pieceTimes
  return {
    id,
    due_ms: round(dueMs),
    sent_ms: round(sent - begun),
    ttft_ms: first === undefined ? null : round(first - sent),
    e2e_ms: round(ended - sent),
    gaps_ms: pieceTimes.slice(1).map((at, index) => round(at - (pieceTimes[index] ?? at))),
    prompt_tokens: usage?.promptTokens ?? null,
    cached_tokens: usage?.cachedTokens ?? null,
    output_tokens: answer.outputTokens,
    ...(request.fixedLength && { asked_tokens: request.maxTokens }),
    counted: usage !== undefined,
    finish: answer.finish ?? null,
    error: failure?.code ?? null,
    message: failure?.message ?? null,
    steps_ms: answer.stepTimes,
    prompt: request.messages.at(-1)?.content ?? '',
    text: answer.text,
  }
}

/** Places in flight, given to those who wait in their order. */
class Places {
  #free: number
  readonly #waiting: (() => void)[] = []

  constructor(count: number) {
    this.#free = count
  }

  /** Returns whether there was none at first. */
  async take(): Promise<boolean> {
    if (this.#free > 0) {
      this.#free--
      return false
    }
    await new Promise<void>((resolve) => this.#waiting.push(resolve))
    return true
  }

  give(): void {
    const next = this.#waiting.shift()
    if (next) next()
    else this.#free++
  }
}

/** To microseconds. */
function round(ms: number): number {
  return Math.round(1000 * ms) / 1000
}
