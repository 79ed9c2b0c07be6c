import type { Context } from 'hono'
import { AparError } from '../../../shared/errors.ts'
import type { AcceptedEvent, StreamEvent } from '../../../shared/protocol/events.ts'
import { errorOf } from '../../../shared/protocol/events.ts'
import type { GenerateRequest } from '../../../shared/protocol/request.ts'
import type { EventWithRows } from '../../../shared/stream-log.ts'
import type { AppEnv } from '../../app-env.ts'
import { authorizeAndReserve } from '../../keys/authorize.ts'
import { affinitiesOf } from './affinity.ts'
import { generate } from './generate.ts'

/** An event, and the index of its stream. */
export type IndexedEvent = readonly [stream: number, event: EventWithRows]

/** The streams of one call. Each was accepted by a gpu node. */
export interface Streams {
  /** In the order of the requests. */
  readonly accepted: readonly AcceptedEvent[]
  /** The events after `accepted` of all streams, as they come. Leaving the loop early cancels all streams. */
  readonly events: AsyncIterable<IndexedEvent>
  /** Cancels all streams. What they used is still settled. */
  readonly cancel: () => void
}

/**
 * Authorizes the call, reserves what its requests may use, and starts a stream for each request. What the streams
 * used is settled however they end, also when the client disconnects.
 * @throws AparError when the key, its limits or a gpu node refuses the call; then nothing runs. This is known before
 * the response begins, so a refusal is an ordinary error response with its status, streaming or not.
 */
export function startStreams(c: Context<AppEnv>, requests: readonly GenerateRequest[]): Promise<Streams> {
  return runToCompletion(c, admitAndStart(c, requests))
}

async function admitAndStart(c: Context<AppEnv>, requests: readonly GenerateRequest[]): Promise<Streams> {
  const admission = await authorizeAndReserve(c, requests)
  const affinities = await affinitiesOf(c, requests)
  const waitUntil = (work: Promise<void>) => c.executionCtx.waitUntil(work)
  return readStreams(c, (signal) => {
    const runs = admission.requests.map((request, stream) => {
      const observe = (event: StreamEvent) => admission.observe(event, stream)
      const affinity = affinities[stream]
      const call = { principal: c.get('principal'), callContext: c.get('callContext'), affinity }
      return generate(c.env, request, { ...call, signal, observe, waitUntil })
    })
    const { tracked, allEnded } = whenAllEnd(runs)
    // When the client disconnects, the platform ends all work of the call except this.
    waitUntil(allEnded.then(() => admission.settle()))
    return tracked
  })
}

/** Completes `work` even if the client disconnects: otherwise a reservation could stay open until it expires. */
export function runToCompletion<T>(c: Context<AppEnv>, work: Promise<T>): Promise<T> {
  const end = () => {}
  c.executionCtx.waitUntil(work.then(end, end))
  return work
}

/**
 * The streams that `start` begins. Their signal aborts when they are cancelled or the client disconnects.
 * @throws AparError when a stream is refused; then the other streams end, too.
 */
export async function readStreams(
  c: Context<AppEnv>,
  start: (signal: AbortSignal) => AsyncGenerator<StreamEvent, void>[],
): Promise<Streams> {
  const controller = new AbortController()
  const cancel = () => controller.abort()
  const { signal } = c.req.raw
  signal.addEventListener('abort', cancel)
  // The client may have disconnected during admission.
  if (signal.aborted) cancel()
  const runs = start(controller.signal)
  const begun = await Promise.allSettled(runs.map(firstEvent))
  const failed = begun.find(({ status }) => status === 'rejected')
  if (failed?.status === 'rejected') {
    cancel()
    const ends = Promise.allSettled(runs.map((run) => run.return()))
    // Their slots are then free before the client can try again. Streams that run need time to be cancelled.
    if (begun.every(({ status }) => status === 'rejected')) await ends
    throw failed.reason
  }
  const accepted = begun.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
  return { accepted, events: merge(runs, cancel), cancel }
}

async function* merge(
  runs: readonly AsyncGenerator<StreamEvent, void>[],
  cancel: () => void,
): AsyncGenerator<IndexedEvent, void> {
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
    // The first stream that failed has thrown and ended the loop; errors of the others are ignored.
    await Promise.allSettled([...pending.values(), ...runs.map((run) => run.return())])
  }
}

/** Wraps the generators, and returns a promise that resolves when all have ended. Each has to be read or returned. */
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

/** @throws AparError for a stream that was refused, or was cut before its first event. */
export async function firstEvent(events: AsyncGenerator<StreamEvent, void>): Promise<AcceptedEvent> {
  const { value } = await events.next()
  // Never sent: the client has disconnected.
  if (!value) throw new AparError('gpu_node_lost', 'the stream was cut before its first event')
  if (value.type === 'error') throw errorOf(value)
  if (value.type !== 'accepted') throw new Error(`a stream began with ${value.type}`)
  return value
}
