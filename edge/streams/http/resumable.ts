import type { Context } from 'hono'
import { AparError } from '../../../shared/errors.ts'
import type { GenerateRequest } from '../../../shared/protocol/request.ts'
import type { AppEnv } from '../../app-env.ts'
import { Admission } from '../../keys/admission.ts'
import { affinitiesOf } from './affinity.ts'
import { follow } from './follow.ts'
import { ItemWithId } from './sse.ts'
import { readStreams, runToCompletion, type Streams } from './streams.ts'

/** How far a client has read an answer: the stream of each choice, and how many of its chunks have arrived. */
export type Position = readonly { readonly stream: string; readonly chunks: number }[]

/** `<stream>.<chunks>` of each choice, separated by commas. */
const POSITION = /^[0-9a-f]{1,64}\.\d{1,9}(,[0-9a-f]{1,64}\.\d{1,9})*$/
const MAX_POSITION_CHARS = 2048

/** From `last-event-id`; undefined when the request does not resume an answer. @throws AparError `invalid_request`. */
export function positionOf(c: Context, choices: number): Position | undefined {
  const text = c.req.header('last-event-id')?.trim()
  if (text === undefined || text === '') return undefined
  const position = POSITION.test(text) && text.length <= MAX_POSITION_CHARS ? text.split(',') : []
  if (position.length !== choices)
    throw new AparError('invalid_request', 'last-event-id does not belong to an answer to this request', {
      param: 'last-event-id',
    })
  return position.map((each) => {
    const [stream = '', chunks] = each.split('.')
    return { stream, chunks: Number(chunks) }
  })
}

/**
 * As `startStreams`, for a client that may resume: each stream is kept after the call for its grace time, and its
 * session owns the reservation.
 */
export function startResumable(c: Context<AppEnv>, requests: readonly GenerateRequest[]): Promise<Streams> {
  return runToCompletion(c, admitAndStart(c, requests))
}

async function admitAndStart(c: Context<AppEnv>, requests: readonly GenerateRequest[]): Promise<Streams> {
  const principal = c.get('principal')
  const admissions = await admitEach(c, requests)
  const affinities = await affinitiesOf(c, requests)
  return readStreams(c, (signal) =>
    admissions.map((admission, index) => {
      const [request] = admission.requests
      if (!request) throw new Error('an admission without a request')
      const affinity = affinities[index]
      const rows = request.return_prompt_token_ids
      const session = { principal, reservation: admission.handOver(), affinity, rows }
      return follow(c.env, request, { callContext: c.get('callContext'), signal, session })
    }),
  )
}

/** The streams of an earlier call with the same requests, from their first event. @throws AparError `stream_not_found`. */
export function resumeStreams(
  c: Context<AppEnv>,
  position: Position,
  [first]: readonly GenerateRequest[],
): Promise<Streams> {
  const session = { principal: c.get('principal'), rows: first?.return_prompt_token_ids }
  return readStreams(c, (signal) => position.map(({ stream }) => follow(c.env, stream, { signal, session })))
}

/** Makes a reservation for each request, since each session settles its own. Makes all or none. */
async function admitEach(c: Context<AppEnv>, requests: readonly GenerateRequest[]): Promise<Admission[]> {
  const admissions: Admission[] = []
  try {
    for (const request of requests) {
      const promptCounted = admissions.some(
        ({ requests: [earlier] }) => earlier?.messages === request.messages,
      )
      const admission = await Admission.open(c.env, c.get('principal'), [request], { promptCounted })
      admissions.push(admission)
      c.set('rates', { ...c.get('rates'), ...admission.rates })
    }
    return admissions
  } catch (error) {
    await Promise.all(admissions.map((admission) => admission.settle()))
    throw error
  }
}

/** The part of a chunk that names its choice. The usage chunk names none, and counts with the first choice. */
export interface Chunk {
  readonly choices: readonly { readonly index: number }[]
}

/**
 * The chunks, each with the position behind it as its event id, without those that the client has got. A stream has the
 * same events each time it is read, so its choice has the same chunks.
 * @throws AparError `invalid_request` at the end, for a position that the answer does not have.
 */
export async function* chunksWithIds(
  chunks: AsyncIterable<Chunk>,
  streams: Streams,
  received?: Position,
): AsyncGenerator<ItemWithId, void> {
  const counts = streams.accepted.map(() => 0)
  for await (const chunk of chunks) {
    const choice = chunk.choices[0]?.index ?? 0
    const count = (counts[choice] ?? 0) + 1
    counts[choice] = count
    if (count <= (received?.[choice]?.chunks ?? 0)) continue
    const id = streams.accepted.map(({ stream }, index) => {
      return `${stream}.${Math.max(counts[index] ?? 0, received?.[index]?.chunks ?? 0)}`
    })
    yield new ItemWithId(id.join(','), chunk)
  }
  if (received?.some(({ chunks }, index) => chunks > (counts[index] ?? 0)))
    throw new AparError('invalid_request', 'last-event-id is behind the end of this answer', {
      param: 'last-event-id',
    })
}
