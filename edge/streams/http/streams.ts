import type { Context } from 'hono'
import { AparError } from '../../../shared/errors.ts'
import type { AcceptedEvent, StreamEvent } from '../../../shared/protocol/events.ts'
import type { GenerateRequest } from '../../../shared/protocol/request.ts'
import type { AppEnv } from '../../app-env.ts'
import { enterAndAdmit } from '../../keys/authorize.ts'
import { streamError } from './choice.ts'
import { generate } from './generate.ts'

/** An event, and which of the streams it belongs to. */
export type Numbered = readonly [stream: number, event: StreamEvent]

/** The streams of one call, all of them accepted by a gpu node. */
export interface Streams {
  /** In the order of the requests. */
  readonly accepted: readonly AcceptedEvent[]
  /** What follows, of all streams, as it comes. Leaving the loop early cancels them all. */
  readonly events: AsyncIterable<Numbered>
  /** Cancels all of them; what they used is settled all the same. */
  readonly cancel: () => void
}

/**
 * Lets the caller of one call in, admits its requests and starts a stream for each. Sees to it that what they used is counted, however
 * they end and even if the client leaves.
 * @throws AparError when the key, its limits or a gpu node refuses; then nothing runs. So only what was accepted gets
 * status 200: a refusal is an ordinary error answer, streaming or not.
 */
export function startStreams(c: Context<AppEnv>, requests: readonly GenerateRequest[]): Promise<Streams> {
  return toItsEnd(c, admitAndStart(c, requests))
}

async function admitAndStart(c: Context<AppEnv>, requests: readonly GenerateRequest[]): Promise<Streams> {
  const admission = await enterAndAdmit(c, requests)
  const finish = (work: Promise<void>) => c.executionCtx.waitUntil(work)
  return readStreams(c, (signal) => {
    const runs = admission.requests.map((request, stream) => {
      const observe = (event: StreamEvent) => admission.observe(event, stream)
      return generate(c.env, request, { callContext: c.get('callContext'), signal, observe, finish })
    })
    const { tracked, allEnded } = whenAllEnd(runs)
    // The platform ends what a client has left behind, but for this.
    finish(allEnded.then(() => admission.settle()))
    return tracked
  })
}

/** For work that a client must not cut short by leaving: a place in its key's limits would stay taken. */
export function toItsEnd<T>(c: Context<AppEnv>, work: Promise<T>): Promise<T> {
  const end = () => {}
  c.executionCtx.waitUntil(work.then(end, end))
  return work
}

/**
 * The streams that `start` begins; its signal aborts when they are cancelled or the client leaves.
 * @throws AparError when one of them is refused; then the others end, too.
 */
export async function readStreams(
  c: Context<AppEnv>,
  start: (signal: AbortSignal) => AsyncGenerator<StreamEvent, void>[],
): Promise<Streams> {
  const leave = new AbortController()
  const cancel = () => leave.abort()
  const { signal } = c.req.raw
  signal.addEventListener('abort', cancel)
  // It may have left while it was admitted.
  if (signal.aborted) cancel()
  const runs = start(leave.signal)
  const begun = await Promise.allSettled(runs.map(firstEvent))
  const failed = begun.find(({ status }) => status === 'rejected')
  if (failed?.status === 'rejected') {
    cancel()
    for (const run of runs) void run.return()
    throw failed.reason
  }
  const accepted = begun.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
  return { accepted, events: merge(runs, cancel), cancel }
}

async function* merge(
  runs: readonly AsyncGenerator<StreamEvent, void>[],
  cancel: () => void,
): AsyncGenerator<Numbered, void> {
  const next = async (index: number) => ({ index, result: await runs[index]?.next() })
  const pending = new Map(runs.map((_, index) => [index, next(index)]))
  try {
    while (pending.size > 0) {
      const { index, result } = await Promise.race(pending.values())
      if (!result || result.done) {
        pending.delete(index)
      } else {
        pending.set(index, next(index))
        yield [index, result.value]
      }
    }
  } finally {
    cancel()
    // One that failed has thrown already, and the first of them has ended the loop.
    await Promise.allSettled([...pending.values(), ...runs.map((run) => run.return())])
  }
}

/** The same runs, and a promise that settles once each of them has ended; each must be read from, or returned. */
function whenAllEnd(runs: AsyncGenerator<StreamEvent, void>[]) {
  let resolve = () => {}
  const allEnded = new Promise<void>((resolved) => {
    resolve = resolved
  })
  let open = runs.length
  async function* track(run: AsyncGenerator<StreamEvent, void>): AsyncGenerator<StreamEvent, void> {
    try {
      yield* run
    } finally {
      open--
      if (open === 0) resolve()
    }
  }
  return { tracked: runs.map(track), allEnded }
}

async function firstEvent(events: AsyncGenerator<StreamEvent, void>): Promise<AcceptedEvent> {
  const { value } = await events.next()
  // Nobody hears this: its client has left.
  if (!value) throw new AparError('gpu_node_lost', 'the stream was cut before its first event')
  if (value.type === 'error') throw streamError(value)
  if (value.type !== 'accepted') throw new Error(`a stream began with ${value.type}`)
  return value
}
