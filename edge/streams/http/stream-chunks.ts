import type { Context } from 'hono'
import { AparError } from '../../../shared/errors.ts'
import type { GenerateRequest } from '../../../shared/protocol/request.ts'
import type { AppEnv } from '../../app-env.ts'
import { authorizeOnce } from '../../keys/authorize.ts'
import { type Chunk, chunksWithIds, positionOf, resumeStreams, startResumable } from './resumable.ts'
import { sseResponse } from './sse.ts'
import { type Streams, startStreams } from './streams.ts'

/**
 * The answer to a call with `stream: true`: its chunks as server-sent events, all of them, or for a client that resumes
 * those after `last-event-id`.
 */
export async function streamChunks(
  c: Context<AppEnv>,
  requests: readonly GenerateRequest[],
  resumable: boolean | undefined,
  chunksOf: (streams: Streams) => AsyncIterable<Chunk>,
): Promise<Response> {
  const received = positionOf(c, requests.length)
  if (received && !resumable) {
    const message = 'last-event-id resumes a call with apar.resumable: send the same body again'
    throw new AparError('invalid_request', message, { param: 'apar.resumable' })
  }
  if (!resumable) {
    const streams = await startStreams(c, requests)
    return sseResponse(c, chunksOf(streams), streams.cancel)
  }
  await authorizeOnce(c, 'generate')
  const streams = await (received ? resumeStreams(c, received) : startResumable(c, requests))
  return sseResponse(c, chunksWithIds(chunksOf(streams), streams, received), streams.cancel)
}
