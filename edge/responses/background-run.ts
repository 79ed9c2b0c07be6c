import { AparError, toAparError } from '../../shared/errors.ts'
import type { AcceptedEvent, StreamEvent } from '../../shared/protocol/events.ts'
import type { CallContext } from '../../shared/protocol/node.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import type { Env } from '../env.ts'
import { Admission, type Reservation } from '../keys/admission.ts'
import { limitsOf } from '../keys/key-limits.ts'
import type { Principal } from '../keys/principal.ts'
import { logTrouble } from '../log.ts'
import {
  cancelledResponse,
  endedResponse,
  failedResponse,
  type ResponseBody,
  ResponseEvents,
} from '../openai/responses.ts'
import { cancelSession } from '../streams/connect.ts'
import { follow, NeverBegun } from '../streams/http/follow.ts'
import type { AnswerPart } from '../streams/http/single-answer.ts'
import { SingleAnswer } from '../streams/http/single-answer.ts'
import { firstEvent, type IndexedEvent } from '../streams/http/streams.ts'
import { PartialAnswer, RecordedAnswer, Recording } from './recording.ts'

/** Of one request, whose session is lost each time before a gpu node has accepted it: it may be the reason. */
const MAX_STARTS = 3
const NOTHING_SPENT = { prompt_tokens: 0, cached_prompt_tokens: 0, completion_tokens: 0 }

interface Begun {
  readonly events: AsyncGenerator<StreamEvent, void>
  readonly accepted: AcceptedEvent
}

/** What is stored of a response while it runs. */
export interface RunRecord {
  readonly principal: Principal
  readonly callContext: CallContext
  /** The stream's name, once a gpu node has accepted the request. */
  readonly stream?: string | undefined
  /** Until then, what is to be started again if the edge is restarted. */
  readonly waiting?: RunStart | undefined
}

/** Of a new stream. */
export interface RunStart {
  readonly request: GenerateRequest
  /** In the key's limits. */
  readonly reservation: Reservation
  /** As of `nodesOf`. */
  readonly affinity?: string | undefined
}

export interface RunOptions {
  /** The response as it was answered first. */
  readonly first: ResponseBody
  readonly record: RunRecord
  /** false: after a restart. The record's stream goes on, or what waits is started again. */
  readonly isNew: boolean
  /** What waits has this reservation from now on. */
  readonly onReserved: (waiting: RunStart) => void
  readonly onBegun: (stream: string) => void
  /** Called once. */
  readonly onEnd: (response: ResponseBody, parts: readonly AnswerPart[]) => void
}

/**
 * An answer that is generated without a client. A StreamSession runs it, as that of a client who is away and may come
 * back: this is its client.
 */
export class BackgroundRun {
  readonly #env: Env
  readonly #options: RunOptions
  readonly #recording = new Recording()
  readonly #abort = new AbortController()
  readonly #soFar: PartialAnswer
  #stream: string | undefined
  #ended: ResponseBody | undefined

  constructor(env: Env, options: RunOptions) {
    this.#env = env
    this.#options = options
    this.#stream = options.record.stream
    this.#soFar = new PartialAnswer(nameOf(options.first))
  }

  /** Resolves when it has ended. */
  async run(): Promise<void> {
    const { first } = this.#options
    try {
      this.#end(endedResponse(first, await this.#follow()))
    } catch (thrown) {
      if (this.#ended) return
      this.#log(thrown)
      this.#end(failedResponse(first, this.#soFar, toAparError(thrown)))
    }
  }

  /** Ends it with what it has until now. */
  async cancel(): Promise<void> {
    const stream = this.#stream
    this.#end(cancelledResponse(this.#options.first, this.#soFar))
    this.#abort.abort()
    if (stream !== undefined) await this.#cancelStream(stream)
  }

  /** Its events from the first one, until its end. */
  events(): AsyncGenerator<object, void> {
    return eventsOf(this.#options.first, this.#recording, () => {
      if (!this.#ended) throw new AparError('internal_error', 'the events of an answer ended before it')
      return this.#ended
    })
  }

  async #follow(): Promise<SingleAnswer> {
    const { first, onBegun } = this.#options
    const { events, accepted } = await this.#begin()
    this.#stream = accepted.stream
    if (this.#ended) {
      await this.#cancelStream(accepted.stream)
      throw cancelled()
    }
    onBegun(accepted.stream)
    this.#recording.begin()
    // Its items are named after the response, not after the stream: that belongs to this object.
    const named = { ...accepted, stream: nameOf(first) }
    const answer = new SingleAnswer({ accepted: [named], events: indexed(events), cancel: () => {} })
    for await (const part of answer.parts()) {
      if (this.#ended) break
      this.#soFar.add(part)
      this.#recording.push(part)
    }
    return answer
  }

  async #begin(): Promise<Begun> {
    const { record, isNew } = this.#options
    const { stream, waiting } = record
    if (stream !== undefined) return await this.#open(stream)
    if (!waiting) throw new AparError('gpu_node_lost', 'the edge was restarted before the answer began')
    let start = isNew ? waiting : await this.#reserveAgain(waiting)
    for (let starts = 1; ; starts++) {
      try {
        return await this.#open(start.request, start)
      } catch (why) {
        if (!(why instanceof NeverBegun)) throw why
        if (starts === MAX_STARTS || this.#ended) {
          await this.#giveBack(start)
          throw why
        }
        this.#log(why)
      }
      start = await this.#reserveAgain(start)
    }
  }

  /** Its session ended without an event, and nobody renews its reservation. */
  async #giveBack({ reservation }: RunStart): Promise<void> {
    const { limits, id } = this.#options.record.principal
    await limitsOf(this.#env, id).settle(limits, reservation.id, NOTHING_SPENT)
  }

  async #reserveAgain(waiting: RunStart): Promise<RunStart> {
    await this.#giveBack(waiting)
    const { principal } = this.#options.record
    const admission = await Admission.open(this.#env, principal, [waiting.request])
    if (this.#ended) {
      await admission.settle()
      throw cancelled()
    }
    const [request = waiting.request] = admission.requests
    const start = { ...waiting, request, reservation: admission.handOver() }
    this.#options.onReserved(start)
    return start
  }

  async #open(from: GenerateRequest | string, start: Partial<RunStart> = {}): Promise<Begun> {
    const { principal, callContext } = this.#options.record
    const { reservation, affinity } = start
    const session = { principal, reservation, affinity }
    const events = follow(this.#env, from, { callContext, signal: this.#abort.signal, session })
    return { events, accepted: await firstEvent(events) }
  }

  async #cancelStream(stream: string): Promise<void> {
    await cancelSession(this.#env, this.#options.record.principal, stream).catch((why) => this.#log(why))
  }

  #end(response: ResponseBody): void {
    if (this.#ended) return
    this.#ended = response
    this.#options.onEnd(response, this.#recording.parts)
    this.#recording.end()
  }

  #log(why: unknown): void {
    logTrouble(this.#env, { response: this.#options.first.id, stream: this.#stream }, why)
  }
}

/** The events of a response whose parts are recorded. */
export function eventsOf(
  first: ResponseBody,
  recording: Recording,
  end: () => ResponseBody,
): AsyncGenerator<object, void> {
  return new ResponseEvents(first, new RecordedAnswer(recording, nameOf(first))).all(end)
}

/** Of what goes on behind a response that was ended meanwhile: nobody sees it. */
function cancelled(): AparError {
  return new AparError('gpu_node_lost', 'cancelled')
}

function nameOf({ id }: ResponseBody): string {
  return id.replace(/^resp_/, '')
}

async function* indexed(events: AsyncIterable<StreamEvent>): AsyncGenerator<IndexedEvent, void> {
  for await (const event of events) yield [0, event]
}
